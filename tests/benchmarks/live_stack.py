"""The running stack as the benchmarks of live operation start and listen to it."""

from collections.abc import Iterator, Sequence
import contextlib
from pathlib import Path
import sys
import time

import cv2
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from stable_crl_ros.bringup import GRAPHS
from stable_crl_ros.checkpoint import load_checkpoint, save_checkpoint
from stable_crl_ros.launcher import Launcher
from stable_crl_ros.nodes.messages import decode_tick, PolicyTick
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recording_source import frames

LATE_S = 0.005
CAMERA_RATE = 30.0  # Hz
SIZE = (480, 640)
START_S = 60.0
SEAL_S = 600.0


def at_rate(path: Path, source: str | Path, rate: float, **changes) -> Path:
    """
    Save a checkpoint that says it was trained at another control rate.

    Its motion means nothing then: its steps are made for its own rate.

    :param changes: tensors to add to, by name.
    """
    checkpoint = load_checkpoint(source)
    tensors = {name: tensor + changes.get(name, 0.0) for name, tensor
               in checkpoint.tensors.items()}
    metadata = {key: value for key, value in checkpoint.metadata.items() if key != 'sha256'}
    save_checkpoint(path, tensors, metadata | {'control_rate': rate})
    return path


def camera_folder(folder: Path) -> str:
    """Fill a folder with pictures that cost little to read; says what they are."""
    folder.mkdir()
    what, pool = frames(SIZE)
    for number, frame in enumerate(pool):
        cv2.imwrite(str(folder / f'{number}.bmp'), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return what


class Listener(Node):
    """Keep every tick of the policy, and what its diagnostics said last."""

    def __init__(self, namespace: str) -> None:
        super().__init__('listener', namespace=namespace)
        self.ticks: list[PolicyTick] = []
        self.said: dict[str, dict[str, str]] = {}
        self.stop_recording = self.create_client(SetBool, 'episode_logger/stop')
        self.create_subscription(Float64MultiArray, 'policy/tick', self._on_tick, 500)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 20)

    def _on_tick(self, message: Float64MultiArray) -> None:
        self.ticks.append(decode_tick(message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.said[status.name.rpartition('/')[2]] = {
                'message': status.message, **{item.key: item.value for item in status.values}}


@contextlib.contextmanager
def running(values: dict[str, str], camera_rate: float | None = CAMERA_RATE,
            priority: bool = True) -> Iterator[tuple[Launcher, Listener, SingleThreadedExecutor]]:
    """
    Run the policy stack, and listen to it, once its policy acts.

    :param values: arguments of the launch; its `namespace` must be its own.
    :param camera_rate: of a camera node, Hz.
    :param priority: False takes the nodes' real-time priorities from them.
    :raises TimeoutError: when it does not act in time, with what its processes said.
    """
    graph = GRAPHS['policy']
    values = graph.complete(values)
    specs = graph.specs(values)
    for spec in specs:
        if spec.executable == 'camera':
            spec.parameters['camera']['framerate'] = camera_rate
        if not priority and spec.executable in ('arm', 'camera', 'policy'):
            spec.parameters.setdefault(spec.executable, {})['priority'] = 0
    lines: list[str] = []
    with Launcher(specs, values['namespace'], output=lines.append) as stack, _listening(
            values['namespace']) as (listener, executor):
        if not spin(executor, stack, START_S, lambda: len(listener.ticks) > 10):
            raise TimeoutError('\n'.join(lines[-20:]))
        yield stack, listener, executor


@contextlib.contextmanager
def _listening(namespace: str) -> Iterator[tuple[Listener, SingleThreadedExecutor]]:
    # Ends before the stack does: Fast DDS 2.14 may block for ever in a process that is there
    # when others leave (its issue 6502).
    rclpy.init()
    listener = Listener(namespace)
    executor = SingleThreadedExecutor()
    executor.add_node(listener)
    try:
        yield listener, executor
    finally:
        listener.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()


def spin(executor: SingleThreadedExecutor, stack: Launcher, seconds: float, until=lambda: False,
         ) -> bool:
    """Listen for a time, or until a condition holds; says whether it does."""
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        stack.poll()
        for _ in range(20):
            executor.spin_once(timeout_sec=0.02)
        if until():
            return True
    return until()


def seal(executor: SingleThreadedExecutor, stack: Launcher, listener: Listener) -> str:
    """Stop the recording, however long its sealing takes; returns what the logger says."""
    future = listener.stop_recording.call_async(SetBool.Request(data=True))
    spin(executor, stack, SEAL_S, future.done)
    return future.result().message


def memory_mib(pid: int) -> float:
    """Return the memory that a process holds alone or shares."""
    for line in Path(f'/proc/{pid}/status').read_text().splitlines():
        if line.startswith('VmRSS'):
            return int(line.split()[1]) / 1024
    return 0.0


def milliseconds(seconds: Sequence[float]) -> list[str]:
    """Return median, 99th percentile and worst, in ms."""
    values = 1e3 * np.asarray(seconds)
    return [f'{number:.2f}' for number in (*np.percentile(values, (50, 99)), values.max())]
