"""Record episodes: every control step with its image, states, stamps and provenance."""

from functools import partial
from pathlib import Path
import shutil
import sys
import threading
import time

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from stable_crl_ros.data.dataset import check_recordable, Dataset, DatasetError
from stable_crl_ros.data.episode import EpisodeError
from stable_crl_ros.data.recorder import EpisodeRecorder, RecordingSummary
from stable_crl_ros.data.schema import EpisodeMeta
from stable_crl_ros.nodes.common import (
    answer,
    Diagnostics,
    ERROR,
    OK,
    param,
    REFUSALS,
    spin_node,
    steady_clock,
    value,
    WARN,
)
from stable_crl_ros.nodes.episode_input import EpisodeInput
from stable_crl_ros.nodes.messages import decode_applied_action, MessageError
from stable_crl_ros.nodes.recording import Recording
from std_msgs.msg import Float64, Float64MultiArray
from std_srvs.srv import SetBool, Trigger

TOLD = ('task', 'instruction', 'operator', 'notes', 'source')
SETTLE_PERIOD_S = 0.05
FINAL_WAIT_S = 2.0  # for the image after the last action
LOW_DISK_BYTES = 1e9


class EpisodeLoggerNode(Node):
    """
    Record one episode from `~/start` to `~/stop`, or throw it away with `~/discard`.

    `task`, `operator` and `notes` are taken as they are at the start. Ending the node in the
    middle of an episode saves it, marked as interrupted; that of a killed node is recovered by
    the next one with the same `dataset_path`.

    :raises StartupError: for parameters that contradict each other.
    :raises DatasetError: for a `dataset_path` to which nothing can be recorded.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('episode_logger', enable_logger_service=True, **kwargs)
        self._declare()
        check_recordable(self._path())
        self._input = EpisodeInput(self)
        self._recording: Recording | None = None
        self._ending: Future | None = None
        self._ending_deadline = 0.0
        self._sealer: threading.Thread | None = None
        self.create_subscription(Float64MultiArray, 'applied_action', self._on_applied, 50)
        self.create_subscription(Float64, 'policy/progress', self._on_progress, 10)
        self.create_service(Trigger, '~/start', self._on_start)
        # A group of its own: its answer waits, and must not keep the others from theirs.
        self.create_service(SetBool, '~/stop', self._on_stop,
                            callback_group=ReentrantCallbackGroup())
        self.create_service(Trigger, '~/discard', self._on_discard)
        self.create_timer(SETTLE_PERIOD_S, self._settle, clock=steady_clock())
        Diagnostics(self).add('recording', self._diagnose)
        self._recover()

    def _declare(self) -> None:
        param(self, 'dataset_path', '~/stable_crl/episodes', 'Directory the episodes go to')
        for name in TOLD[:-1]:
            param(self, name, '', f'{name} of the next episode, stored with it')
        param(self, 'source', 'robot', 'Where episodes come from: robot, simulation, ...')
        self._armed = param(self, 'record_on_start', False, 'Record from the first control step '
                            'on', read_only=True)
        rate = param(self, 'control_rate', 5.0, 'Control steps per second (Hz)', low=0.5,
                     high=50.0, read_only=True)
        self._period_s = 1.0 / rate

    def _path(self) -> Path:
        return Path(value(self, 'dataset_path')).expanduser()

    def _recover(self) -> None:
        try:
            found = Dataset(self._path()).recover() if self._path().is_dir() else []
        except (DatasetError, OSError) as error:
            self.get_logger().error(f'nothing can be recorded there: {error}')
            return
        for item in found:
            self.get_logger().warning(f'{item.path.name}: {item.state}, {item.steps} steps. '
                                      f'{item.message}')

    def _on_applied(self, message: Float64MultiArray) -> None:
        try:
            step = decode_applied_action(message)
            if self._armed and self._recording is None:
                self.get_logger().info(self._start())
        except REFUSALS as error:
            self._input.bad_messages += isinstance(error, MessageError)
            self.get_logger().error(str(error), throttle_duration_sec=2.0)
            return
        if self._recording is not None and self._ending is None:
            self._recording.note('goals', self._input.goal_id)
            self._recording.note('checkpoints', self._input.checkpoint)
            self._recording.add(step, time.monotonic())

    def _on_progress(self, message: Float64) -> None:
        if self._recording is not None:
            self._recording.add_progress(message.data, time.monotonic())

    def _on_start(self, _, response: Trigger.Response) -> Trigger.Response:
        try:
            return answer(self, response, True, self._start())
        except REFUSALS as error:
            return answer(self, response, False, str(error))

    def _start(self) -> str:
        if self._recording is not None:
            raise EpisodeError('an episode is being recorded; stop or discard it first')
        if missing := self._input.missing():
            raise EpisodeError(f'cannot record: {"; ".join(missing)}')
        recorder = EpisodeRecorder(Dataset(self._path(), create=True))
        meta = self._meta()
        episode_id = recorder.start(meta)
        self._recording = Recording(recorder, self._input.alignment, self._period_s,
                                    self._input.max_image_age_s)
        self._armed = False
        return (f'recording episode {episode_id} to {self._path()}: task {meta.task!r}, '
                f'operator {meta.operator!r}, notes {meta.notes!r}')

    def _meta(self) -> EpisodeMeta:
        spec = self._input.spec
        return EpisodeMeta(
            **{name: value(self, name) for name in TOLD}, control_rate=1.0 / self._period_s,
            goal_id=self._input.goal_id, goal_image=self._input.goal_image(),
            checkpoint=self._input.checkpoint,
            image_spec=None if spec is None else spec.to_dict())

    async def _on_stop(self, request: SetBool.Request, response: SetBool.Response):
        try:
            summary = await self._end(request.data)
            return answer(self, response, True, str(summary))
        except REFUSALS as error:
            return answer(self, response, False, str(error))

    async def _end(self, success: bool) -> RecordingSummary:
        if self._recording is None or self._ending is not None:
            raise EpisodeError('no episode is being recorded; start one first')
        self._ending = Future()
        self._ending_deadline = time.monotonic() + FINAL_WAIT_S
        await self._ending  # `_settle` waits for what came after the last action
        recording, self._recording, self._ending = self._recording, None, None
        return await self._in_thread(partial(recording.finish, success))

    def _in_thread(self, seal) -> Future:
        """Run in a thread: sealing may take as long as the disk wants."""
        future, executor = Future(), self.executor

        def run() -> None:
            try:
                future.set_result(seal())
            except Exception as error:  # it must reach the caller, whatever it is
                future.set_exception(error)
            executor.wake()
        self._sealer = threading.Thread(target=run, name='episode sealer')
        self._sealer.start()
        return future

    def _settle(self) -> None:
        if self._recording is None:
            return
        now = time.monotonic()
        self._recording.settle(now)
        ending = self._ending is not None and not self._ending.done()
        if ending and (self._recording.settled or now > self._ending_deadline):
            self._recording.settle(now, everything=True)
            self._ending.set_result(None)

    def _on_discard(self, _, response: Trigger.Response) -> Trigger.Response:
        if self._recording is None or self._ending is not None:
            return answer(self, response, False, 'no episode is being recorded')
        recording, self._recording = self._recording, None
        try:
            episode_id = recording.discard()
        except REFUSALS as error:
            return answer(self, response, False, str(error))
        return answer(self, response, True,
                      f'discarded episode {episode_id}: {recording.steps} steps')

    def destroy_node(self) -> None:
        """Save a running episode as interrupted, then destroy the node."""
        if self._sealer is not None:
            self._sealer.join()
        recording, self._recording = self._recording, None
        if recording is not None:
            self._save(recording)
        super().destroy_node()

    def _save(self, recording: Recording) -> None:
        recording.settle(time.monotonic(), everything=True)
        try:
            if recording.steps:
                self._say(f'interrupted: {recording.finish(interrupted=True)}')
            else:
                recording.discard()
        except REFUSALS as error:
            self._say(str(error))

    def _say(self, text: str) -> None:
        if self.context.ok():
            self.get_logger().warning(text)
        else:  # after Ctrl-C a logger complains that it cannot publish
            print(f'{self.get_name()}: {text}', file=sys.stderr, flush=True)

    def _diagnose(self) -> tuple[bytes, str, dict]:
        try:
            existing = next(p for p in (self._path(), *self._path().parents) if p.exists())
            free = shutil.disk_usage(existing).free
        except REFUSALS as error:  # what was set may be no path at all
            return ERROR, f'dataset_path: {error}', {}
        values = {'dataset_path': self._path(), 'disk_free_gb': f'{free / 1e9:.1f}',
                  'bad_messages': self._input.bad_messages}
        recording = self._recording
        if recording is not None:
            values |= {'steps': recording.steps, 'dropped': recording.dropped,
                       'late': recording.late, **recording.refused}
            if recording.dropped:
                text = f'{recording.dropped} steps dropped: {recording.error}'
                self.get_logger().error(text, throttle_duration_sec=10.0)
                return ERROR, text, values
        if free < LOW_DISK_BYTES:
            return WARN, f'only {free / 1e6:.0f} MB free at {existing}', values
        if recording is not None:
            return OK, f'recording: {recording.steps} steps', values
        missing = self._input.missing()
        return OK, f'waiting: {"; ".join(missing)}' if missing else 'ready', values


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    return spin_node(EpisodeLoggerNode, args)


if __name__ == '__main__':
    sys.exit(main())
