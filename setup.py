"""Build the ament_python package: modules, assets, launch files, configuration, node scripts."""

from glob import glob

from setuptools import find_packages, setup

PACKAGE = 'stable_crl_ros'

setup(
    name=PACKAGE,
    version='0.1.0',
    description='Goal-conditioned control of a WidowX 250s from images, learned offline',
    maintainer='stable_crl_ros maintainers',
    maintainer_email='maintainers@stable-crl-ros.example',
    license='MIT',
    python_requires='>=3.11',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={PACKAGE: ['assets/**/*', 'sim/assets/*']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        (f'share/{PACKAGE}/launch', sorted(glob('launch/*.launch.py'))),
        (f'share/{PACKAGE}/config', sorted(glob('config/*'))),
        # The nodes, for `ros2 run` and `ros2 launch`. As entry points they would begin with the
        # interpreter that runs colcon, usually the system's, which has no torch: these take the
        # activated environment's. And pip would put `goal` and `sim` into bin/.
        (f'lib/{PACKAGE}', sorted(glob('scripts/*'))),
    ],
    # ROS itself is never listed: pip would shadow the one that is installed.
    install_requires=[
        'setuptools', 'dynamixel-sdk>=4.0', 'gymnasium', 'matplotlib>=3.8', 'mujoco>=3.3',
        'numpy>=1.26', 'opencv-python>=4.8', 'pillow>=9.1', 'pyyaml', 'safetensors', 'tensorboard',
        'torch>=2.4,<3', 'tqdm', 'zarr>=3.1',
    ],
    extras_require={
        'ros': ['ros-rclpy[fastrtps]==7.1.6', 'ros-sensor-msgs==5.3.6', 'ros-std-msgs==5.3.6',
                'ros-std-srvs==5.3.6', 'ros-geometry-msgs==5.3.6', 'ros-diagnostic-msgs==5.3.6',
                'ros-trajectory-msgs==5.3.6'],
        # Not on a robot: pyarrow alone is 170 MB. TensorBoard and Zarr bring the last two.
        'exchange': ['pyarrow>=15', 'rosbags>=0.10', 'protobuf>=4.25', 'google-crc32c>=1.5'],
        'teleop': ['evdev-binary>=1.9', 'hidapi>=0.14'],  # gamepads, SpaceMouse
        'test': ['hypothesis', 'pin', 'pytest', 'pytest-timeout', 'pytest-xdist', 'tfrecord'],
    },
    entry_points={'console_scripts': [f'stable-crl = {PACKAGE}.cli:main']},
    zip_safe=False,
)
