#!/usr/bin/env python3
"""Play a robot for the recording tests: cameras, arm states and control ticks at their rates."""

import argparse
import array
from collections import deque
from collections.abc import Iterable
import os
from pathlib import Path
import time

import cv2
import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.environment import ros_environment
from stable_crl_ros.nodes.common import IMAGE_OUT
from stable_crl_ros.nodes.conversions import to_stamp
from stable_crl_ros.nodes.messages import (
    AppliedAction,
    encode_applied_action,
    encode_ee_pose,
    encode_joint_states,
    encode_tick,
    PolicyTick,
)
from stable_crl_ros.robot.arm import ArmState
from stable_crl_ros.robot.kinematics import START
from stable_crl_ros.robot.safety import StepFlag
from std_msgs.msg import Float64MultiArray

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get('STABLE_CRL_TEST_DATA')
            or ROOT.parent / 'shared' / 'data' / 'widowx_real') / 'bridge_v2_drawer_eval_video'
CAMERAS = ('over_shoulder', 'wrist', 'side')
STATE_RATE = 50.0  # Hz
POOL = 24  # different frames, played in a circle
NOISE = 2.0  # standard deviation of a sensor's noise, grey levels
TICK_DELAY_S = 0.004  # from an image to the command computed from it


def frames(size: tuple[int, int], count: int = POOL) -> tuple[str, list[np.ndarray]]:
    """
    Make camera frames: real ones upscaled, else the shipped goal photographs, with fresh noise.

    :param size: (H, W).
    :returns: what they are, and uint8 RGB (H, W, 3).
    """
    found = sorted((REAL / 'act_success').glob('im_*.jpg'))
    what = f'real 320x240 frames upscaled to {size[1]}x{size[0]}'
    if not found:
        found = sorted((ROOT / 'stable_crl_ros' / 'assets' / 'goals').glob('*.png'))
        what = f"the simulator's goal photographs scaled to {size[1]}x{size[0]}"
    rng = np.random.default_rng(0)
    pool = []
    for number in range(count):
        picture = cv2.cvtColor(cv2.imread(str(found[number % len(found)])), cv2.COLOR_BGR2RGB)
        picture = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR)
        noisy = picture + rng.normal(0.0, NOISE, picture.shape)
        pool.append(np.clip(noisy.round(), 0, 255).astype(np.uint8))
    return f'{what}, with noise of {NOISE:g} grey levels', pool


class Source(Node):
    """
    Publish everything that the episode logger hears of a robot with a policy.

    :param cameras: how many; the first as `image_raw`, the others as NAME/image_raw.
    :param pool: frames to show.
    :param log: file that gets the stamp of every control step, int64 ns; None for none.
    """

    def __init__(self, cameras: int, pool: list[np.ndarray], log: Path | None = None,
                 **kwargs) -> None:
        super().__init__('recording_source', **kwargs)
        self._log = None if log is None else open(log, 'wb', buffering=0)  # noqa: SIM115 for ever
        self.checkpoint = '0123456789ab'
        self.clock_ns = 0  # by which its clock is ahead of the system's
        self._pool = [self._message(frame) for frame in pool]
        names = ['image_raw', *(f'{name}/image_raw' for name in CAMERAS[1:cameras])]
        self._images = [self.create_publisher(Image, name, IMAGE_OUT) for name in names]
        self._joints = self.create_publisher(JointState, 'joint_states', 10)
        self._poses = self.create_publisher(type(encode_ee_pose(self._state(0))), 'ee_pose', 10)
        self._applied = self.create_publisher(Float64MultiArray, 'applied_action', 10)
        self._ticks = self.create_publisher(Float64MultiArray, 'policy/tick', 50)
        # Stamps of the last images of each camera, ns.
        self.shown = [deque(maxlen=64) for _ in self._images]

    def show(self, number: int, cameras: Iterable[int] | None = None) -> None:
        """Publish one image from every camera, or from some, now."""
        now = time.time_ns() + self.clock_ns
        for camera in range(len(self._images)) if cameras is None else cameras:
            message = self._pool[(number + 7 * camera) % len(self._pool)]
            message.header.stamp = to_stamp(now)
            self._images[camera].publish(message)
            self.shown[camera].append(now)

    def move(self) -> None:
        """Publish the arm's state, now."""
        state = self._state(time.time_ns() + self.clock_ns)
        self._joints.publish(encode_joint_states(state))
        self._poses.publish(encode_ee_pose(state))

    def act(self, number: int) -> None:
        """Publish one control step, on the newest image; its number is in the first action."""
        action = np.array([number * 1e-6, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
        now, capture_ns = time.time_ns() + self.clock_ns, self.shown[0][-1]
        self._applied.publish(encode_applied_action(AppliedAction(
            action, action, Mode.POLICY, StepFlag(0), capture_ns, now, now)))
        self._ticks.publish(encode_tick(PolicyTick(capture_ns, action, self.checkpoint)))
        if self._log is not None:
            self._log.write(np.int64(capture_ns).tobytes())

    @staticmethod
    def _state(stamp_ns: int) -> ArmState:
        swing = 0.1 * np.sin(stamp_ns * 1e-9 + np.arange(6))
        return ArmState(stamp_ns, START + swing, np.zeros(6), np.zeros(6), 0.5)

    @staticmethod
    def _message(frame: np.ndarray) -> Image:
        data = array.array('B')
        data.frombytes(frame.tobytes())
        height, width = frame.shape[:2]
        return Image(height=height, width=width, encoding='rgb8', step=3 * width, data=data)


def play(source: Source, camera_rate: float, control_rate: float, seconds: float) -> None:
    """Publish at the rates asked for until the time is over; what is late is skipped."""
    start = time.monotonic()
    due = {'show': 0.0, 'move': 0.0, 'act': TICK_DELAY_S}
    period = {'show': 1 / camera_rate, 'move': 1 / STATE_RATE, 'act': 1 / control_rate}
    count = dict.fromkeys(due, 0)
    while rclpy.ok():
        name = min(due, key=due.get)
        if due[name] > seconds:
            return
        time.sleep(max(0.0, due[name] - (time.monotonic() - start)))
        if name == 'move':
            source.move()
        else:
            getattr(source, name)(count[name])
        count[name] += 1
        late = time.monotonic() - start - due[name]
        due[name] += period[name] * (1 + int(late / period[name]))


def main() -> int:
    """Play until the time is over or the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--cameras', type=int, default=3)
    parser.add_argument('--size', default='480x640')
    parser.add_argument('--camera-rate', type=float, default=30.0)
    parser.add_argument('--control-rate', type=float, default=30.0)
    parser.add_argument('--seconds', type=float, default=1e9)
    parser.add_argument('--log', type=Path, help='gets the stamp of every control step')
    options, ros_words = parser.parse_known_args()
    os.environ.update(ros_environment())
    height, width = (int(part) for part in options.size.split('x'))
    what, pool = frames((height, width))
    rclpy.init(args=ros_words)
    source = Source(options.cameras, pool, options.log)
    print(f'playing {options.cameras} cameras: {what}', flush=True)
    try:
        play(source, options.camera_rate, options.control_rate, options.seconds)
    finally:
        source.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
