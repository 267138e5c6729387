"""Launch arm and camera alone, for checks and for graphs of your own."""

from stable_crl_ros.launch_description import describe


def generate_launch_description():
    """Describe the processes and arguments; `ros2 launch --show-args` lists them."""
    return describe('hardware')
