"""Recordings in other formats, made of the real ones."""

import pickle

import numpy as np
from rosbags.rosbag2 import Writer
from rosbags.typesys import get_typestore, Stores
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.exchange.importing import import_recordings
from stable_crl_ros.images import encode_image

TYPES = get_typestore(Stores.ROS2_JAZZY)
SECOND = 10 ** 9


def real_arrays(real_data, number=0):
    """Give one real recording: 10 images of 3 cameras, states, and 10 actions."""
    with np.load(real_data / 'bridge_v1_octo' / f'episode_{number:03d}' / 'episode.npz') as file:
        return {name: file[name] for name in file.files}


def import_real(real_data, path):
    """Import the 18 real recordings."""
    import_recordings(real_data / 'bridge_v1_octo', path)
    return Dataset(path)


def as_numpy_1(data):
    """Let a pickle of protocol 3 or lower name the modules as NumPy 1 does."""
    return data.replace(b'numpy._core.', b'numpy.core.')


def write_raw(folder, real_data, number=0, language='put it there', protocol=3):
    """Write a real recording as BridgeData V2 was recorded; returns its arrays."""
    arrays = real_arrays(real_data, number)
    (folder / 'images0').mkdir(parents=True)
    for row in range(10):
        source = real_data / 'bridge_v1_octo' / f'episode_{number:03d}' / 'images0'
        (folder / 'images0' / f'im_{row}.jpg').write_bytes(
            (source / f'im_{row}.jpg').read_bytes())
    observed = {'full_state': arrays['state'], 'qpos': np.arange(60.0).reshape(10, 6),
                'time_stamp': 1.6e9 + 0.2 * np.arange(10), 'env_done': [False] * 10}
    outputs = [{'actions': action, 'policy_type': 'VRTeleopPolicy'}
               for action in arrays['actions'][:9]]
    for name, content in (('obs_dict', observed), ('policy_out', outputs)):
        (folder / f'{name}.pkl').write_bytes(as_numpy_1(pickle.dumps(content, protocol)))
    if language:
        (folder / 'lang.txt').write_text(f'{language}\nconfidence: 0.9\n')
    return arrays


def write_numpy(path, real_data, numbers=(0, 1)):
    """Write real recordings as `out.npy`; returns their arrays."""
    sources = [real_arrays(real_data, number) for number in numbers]
    trajectories = []
    for arrays in sources:
        seen = [{'images0': image, 'state': state}
                for image, state in zip(arrays['images0'], arrays['state'], strict=True)]
        trajectories.append({
            'observations': seen[:-1], 'next_observations': seen[1:],
            'actions': list(arrays['actions'][:-1]), 'terminals': [0] * 9,
            'language': [str(arrays['language'])]})
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, trajectories, allow_pickle=True)
    return sources


class Bag:
    """A bag being written; stamps in ns of the system clock."""

    def __init__(self, path, plugin):
        self._writer = Writer(path, version=9, storage_plugin=plugin)
        self._writer.open()
        self._connections = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._writer.close()

    def add(self, topic, kind, stamp_ns, received_ns=None, **fields):
        """Write a message; one with a header is stamped."""
        message_type = TYPES.types[kind]
        if 'header' in message_type.__dataclass_fields__:
            fields['header'] = make('std_msgs/msg/Header', frame_id='', stamp=make(
                'builtin_interfaces/msg/Time', sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND))
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=TYPES)
        data = TYPES.serialize_cdr(message_type(**fields), kind)
        self._writer.write(self._connections[topic], received_ns or stamp_ns, data)

    def image(self, topic, stamp_ns, image, compressed=False):
        """Write an image, received 1 ms after it was taken."""
        if compressed:
            self.add(topic, 'sensor_msgs/msg/CompressedImage', stamp_ns, stamp_ns + 10**6,
                     format='png', data=np.frombuffer(encode_image(image), np.uint8))
        else:
            self.add(topic, 'sensor_msgs/msg/Image', stamp_ns, stamp_ns + 10**6,
                     height=image.shape[0], width=image.shape[1], encoding='rgb8',
                     is_bigendian=0, step=image.shape[1] * 3, data=image.reshape(-1))

    def twist(self, topic, stamp_ns, numbers, received_ns=None):
        """Write a velocity."""
        linear, angular = (make('geometry_msgs/msg/Vector3', **dict(zip('xyz', part, strict=True)))
                           for part in (numbers[:3], numbers[3:]))
        self.add(topic, 'geometry_msgs/msg/TwistStamped', stamp_ns, received_ns,
                 twist=make('geometry_msgs/msg/Twist', linear=linear, angular=angular))

    def pose(self, topic, stamp_ns, numbers):
        """Write x, y, z and a quaternion."""
        self.add(topic, 'geometry_msgs/msg/PoseStamped', stamp_ns, pose=make(
            'geometry_msgs/msg/Pose',
            position=make('geometry_msgs/msg/Point', **dict(zip('xyz', numbers[:3], strict=True))),
            orientation=make('geometry_msgs/msg/Quaternion',
                             **dict(zip('xyzw', numbers[3:], strict=True)))))

    def joints(self, topic, stamp_ns, names, positions):
        """Write joint states without velocities and efforts."""
        self.add(topic, 'sensor_msgs/msg/JointState', stamp_ns, name=names,
                 position=np.array(positions, float), velocity=np.array([]), effort=np.array([]))


def make(kind, **fields):
    """Make a message."""
    return TYPES.types[kind](**fields)
