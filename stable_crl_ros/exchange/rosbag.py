"""rosbag2 recordings (sqlite3 and MCAP) and ROS 1 bags, aligned to steps by their stamps."""

from collections.abc import Iterator
from functools import partial
import math
import os
from pathlib import Path
import tempfile
from typing import Any

import numpy as np
from stable_crl_ros.data.schema import EpisodeMeta
from stable_crl_ros.exchange.bag_steps import BagContent, Camera, make_steps
from stable_crl_ros.exchange.bridge import CONTROL_RATE
from stable_crl_ros.exchange.options import ImportOptions, Topics
from stable_crl_ros.exchange.recording import ExchangeError, Item, need, Recording
from stable_crl_ros.images import ImageError
from stable_crl_ros.message_reading import (
    ConversionError,
    decode_applied_action,
    decode_ee_pose,
    decode_joint_states,
    message_to_image,
    MessageError,
    to_nanoseconds,
)

LAYOUT = 'a folder with metadata.yaml and .db3 or .mcap files, one .mcap, one ROS 1 .bag'
PATTERNS = ('metadata.yaml', '*/metadata.yaml', '*.mcap', '*.bag')
SUFFIXES = ('.mcap', '.bag', '.db3')
IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
_TYPES = {  # role -> what its topic must carry
    'joint_states': 'sensor_msgs/msg/JointState', 'ee_pose': 'geometry_msgs/msg/PoseStamped',
    'applied_action': 'std_msgs/msg/Float64MultiArray',
    'twist': 'geometry_msgs/msg/TwistStamped', 'gripper': 'std_msgs/msg/Float64',
}


def find(source: Path, options: ImportOptions) -> list[Item]:
    """List the bags: the source itself, or those in it; each is one recording."""
    paths = [source] if source.is_file() or (source / 'metadata.yaml').is_file() else sorted(
        [path.parent for path in source.glob('*/metadata.yaml')]
        + [path for suffix in ('mcap', 'bag') for path in source.glob(f'*.{suffix}')])
    # The database of a bag is read through the folder that describes it.
    paths = [path.parent if path.suffix == '.db3' else path for path in paths]
    return [Item(str(path), partial(_read, path, options)) for path in paths]


def _read(path: Path, options: ImportOptions) -> Recording:
    highlevel, typesys = need('rosbags.highlevel'), need('rosbags.typesys')
    types = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)  # for bags that hold none
    try:
        with highlevel.AnyReader([path], default_typestore=types) as reader:
            return _recording(reader, path, options)
    except ExchangeError:
        raise
    except Exception as error:  # a damaged file makes the library raise many kinds
        raise ExchangeError(f'{path}: a damaged bag, or not one ({error!r})') from error


def _recording(reader: Any, path: Path, options: ImportOptions) -> Recording:
    name = str(path)
    connections = _choose_topics(reader, options.topics, name)
    content = _content(reader, connections, name)
    steps = make_steps(content, options, name)
    meta = EpisodeMeta(
        task=options.task or options.instruction or path.stem, instruction=options.instruction,
        operator=options.operator, control_rate=options.rate or CONTROL_RATE, source='rosbag',
        extra={'source_path': path.name, 'topics': {role: connection.topic for role, connection
                                                    in connections.items()},
               'actions': steps.meaning, **({'gaps': steps.gaps} if steps.gaps else {})})
    chosen = {connections[_camera_role(camera)].topic: camera for camera in content.cameras}
    images = _images(reader, chosen, steps.rows, name)
    return Recording(name, images, steps.actions, meta, states=steps.states, steps=steps.fields,
                     ages=steps.ages, mode=steps.mode, dropped=steps.dropped)


def _camera_role(camera: str) -> str:
    return f'camera {camera}'


def _choose_topics(reader: Any, topics: Topics, name: str) -> dict[str, Any]:
    """
    Match roles with connections of the bag.

    :returns: role -> connection; a camera's role is 'camera NAME'.
    """
    found = {}
    for role, kind in _TYPES.items():
        connection = _match(reader, getattr(topics, role), name)
        if connection is not None:
            if connection.msgtype != kind:
                raise ExchangeError(f'{name}: {connection.topic} carries {connection.msgtype}; '
                                    f'as {role} it must carry {kind}')
            found[role] = connection
    if mode := _mode_beside(reader, found.get('applied_action')):
        found['mode'] = mode
    cameras = topics.cameras or {
        topic.strip('/').removesuffix('/compressed').replace('/', '_'): topic
        for topic in _image_topics(reader)}
    for camera, topic in cameras.items():
        connection = _match(reader, topic, name)
        if connection is None or connection.msgtype not in IMAGE_TYPES:
            raise ExchangeError(f'{name}: no images on {topic!r}; images are on '
                                f'{_image_topics(reader) or "no topic"}')
        found[_camera_role(camera)] = connection
    if not cameras:
        raise ExchangeError(f'{name}: holds no images; its topics: {sorted(reader.topics)}')
    return found


def _mode_beside(reader: Any, applied: Any) -> Any:
    """Return the connection on which the arm that applied the actions says its mode."""
    place = '' if applied is None else applied.topic.rpartition('/')[0]
    return next((connection for connection in reader.connections
                 if applied is not None and connection.topic == f'{place}/mode'
                 and connection.msgtype == 'std_msgs/msg/String'), None)


def _image_topics(reader: Any) -> list[str]:
    """Return the topics with images but goals; one that is there twice is taken compressed."""
    topics = [connection.topic for connection in reader.connections
              if connection.msgtype in IMAGE_TYPES and connection.msgcount
              and 'goal' not in connection.topic.split('/')]
    return sorted(topic for topic in set(topics) if f'{topic}/compressed' not in topics)


def _match(reader: Any, topic: str, name: str) -> Any:
    """Return the connection with a topic's messages, None when there is none."""
    used = [connection for connection in reader.connections if connection.msgcount]
    fitting = [connection for connection in used
               if connection.topic.strip('/') == topic.strip('/')]
    if not fitting:
        fitting = [connection for connection in used
                   if f'/{connection.topic.strip("/")}'.endswith(f'/{topic.strip("/")}')
                   and 'teleop' not in connection.topic.split('/')]
    topics = {connection.topic for connection in fitting}
    if len(topics) > 1:
        raise ExchangeError(f'{name}: {topic!r} fits {sorted(topics)}; write out which one')
    return fitting[0] if fitting else None


def _content(reader: Any, connections: dict[str, Any], name: str) -> BagContent:
    """Read everything but the images, of which only the stamps."""
    content = BagContent({role.removeprefix('camera '): Camera()
                          for role in connections if role.startswith('camera ')})
    roles = {connection.topic: role for role, connection in connections.items()}
    for topic, received_ns, message in _messages(reader, roles):
        role = roles[topic]
        try:
            _keep(content, role, message, received_ns)
        except (MessageError, ValueError) as error:
            raise ExchangeError(f'{name}: a message of {topic} is not usable ({error})') from error
    return content


def _messages(reader: Any, topics) -> Iterator[tuple[str, int, Any]]:
    chosen = [connection for connection in reader.connections if connection.topic in topics]
    for connection, received_ns, data in reader.messages(connections=chosen):
        yield connection.topic, received_ns, reader.deserialize(data, connection.msgtype)


def _keep(content: BagContent, role: str, message: Any, received_ns: int) -> None:
    if role.startswith('camera '):
        camera = content.cameras[role.removeprefix('camera ')]
        camera.add(to_nanoseconds(message.header.stamp), received_ns)
    elif role == 'joint_states':
        state = decode_joint_states(message)
        content.joints.add(state.stamp_ns, state)
    elif role == 'ee_pose':
        content.poses.add(to_nanoseconds(message.header.stamp), decode_ee_pose(message))
    elif role == 'applied_action':
        step = decode_applied_action(message)
        content.applied.add(step.capture_ns, step)
    elif role == 'mode':
        content.modes.add(received_ns, message.data)
    elif role == 'twist':
        content.twists.add(to_nanoseconds(message.header.stamp), (message, received_ns))
    else:
        content.grippers.add(received_ns, float(message.data))


def _images(reader: Any, cameras: dict[str, str], rows: dict[str, np.ndarray], name: str,
            ) -> dict[str, np.ndarray]:
    """
    Decode the chosen images to a file without a name that is mapped, however many there are.

    :param cameras: topic -> camera.
    :param rows: camera -> which of its messages each observation holds, in order of stamps.
    """
    wanted = {camera: {} for camera in rows}
    for camera, numbers in rows.items():
        for row, number in enumerate(numbers):
            wanted[camera].setdefault(int(number), []).append(row)
    seen = dict.fromkeys(rows, 0)
    images: dict[str, np.ndarray] = {}
    for topic, _, message in _messages(reader, cameras):
        camera = cameras[topic]
        number, seen[camera] = seen[camera], seen[camera] + 1
        for row in wanted[camera].get(number, ()):
            image = _decode(message, f'{name}: {topic}')
            if camera not in images:
                images[camera] = _scratch((len(rows[camera]), *image.shape))
            if image.shape != images[camera].shape[1:]:
                raise ExchangeError(f'{name}: {topic} changes its size, from '
                                    f'{images[camera].shape[1:3]} to {image.shape[:2]}')
            images[camera][row] = image
    return images


def _decode(message: Any, what: str) -> np.ndarray:
    try:
        return message_to_image(message, what)
    except (ConversionError, ImageError) as error:
        raise ExchangeError(str(error)) from error


def _scratch(shape: tuple[int, ...]) -> np.ndarray:
    try:
        with tempfile.TemporaryFile(prefix='stable_crl_bag_') as file:
            # All of it at once: a page that finds no room later would kill the process.
            os.posix_fallocate(file.fileno(), 0, math.prod(shape))
            return np.memmap(file, np.uint8, 'r+', shape=shape)
    except OSError as error:
        raise ExchangeError(f'{tempfile.gettempdir()}: no room for {math.prod(shape) / 1e6:.0f} '
                            f'MB of images ({error.strerror}); free space, or name another '
                            f'folder in TMPDIR') from error
