"""Record episodes: every control step with its images, states, stamps and provenance."""

from collections import deque
from functools import partial
import gc
from pathlib import Path
import sys
import threading
import time

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from stable_crl_ros.data.codecs import JPEG
from stable_crl_ros.data.dataset import check_recordable, Dataset, DatasetError
from stable_crl_ros.data.episode import EpisodeError
from stable_crl_ros.data.recorder import RecordingSummary
from stable_crl_ros.data.schema import EpisodeMeta
from stable_crl_ros.nodes.background import run_in_thread
from stable_crl_ros.nodes.common import (
    answer,
    Diagnostics,
    LATCHED,
    REFUSALS,
    spin_node,
    steady_clock,
    value,
)
from stable_crl_ros.nodes.episode_input import EpisodeInput
from stable_crl_ros.nodes.episode_labels import EpisodeLabels
from stable_crl_ros.nodes.logger_parameters import declare, told
from stable_crl_ros.nodes.messages import (
    AppliedAction,
    decode_applied_action,
    decode_tick,
    MessageError,
    PolicyTick,
)
from stable_crl_ros.nodes.recording import begin, Recording
from stable_crl_ros.nodes.recording_health import CallbackCost, DiskWatch, judge
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger

SETTLE_PERIOD_S = 0.02
FINAL_WAIT_S = 2.0  # for the image after the last action
MOST_EARLY = 1000  # steps
BY_ITSELF = ('max_steps', 'max_duration')


class EpisodeLoggerNode(Node):
    """
    Record one episode from `~/start` to `~/stop`, or throw it away with `~/discard`.

    What is told of an episode (`task`, `operator`, ...) is taken as it is at the start;
    `~/label_last` says better afterwards. Ending the node in the middle of an episode saves it,
    marked as interrupted; that of a killed node is recovered by the next one with the same
    `dataset_path`.

    :raises StartupError: for parameters that contradict each other.
    :raises DatasetError: for a `dataset_path` to which nothing can be recorded.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('episode_logger', enable_logger_service=True, **kwargs)
        declare(self)
        self._period_s = 1.0 / value(self, 'control_rate')
        self._armed = value(self, 'record_on_start')
        check_recordable(self._path())
        self._recover()  # before anything is heard that would have to wait for it
        self._cost = CallbackCost()
        self._recording: Recording | None = None
        self._input = EpisodeInput(self, self._cost.timed, self._hand_over_all)
        # What the arm does while an episode is being begun, and when; None at other times.
        self._early: deque[tuple[AppliedAction, float]] | None = None
        self._heard: deque[tuple[PolicyTick, float]] = deque(maxlen=MOST_EARLY)  # and when
        self._ending: Future | None = None
        # The verdict on the episode that is ending, and for what whoever labels it waits.
        self._verdict: bool | None = None
        self._expected: Future | None = None
        self._ending_deadline = 0.0
        self._threads: list[threading.Thread] = []
        self._create_topics()
        self._labels = EpisodeLabels(self, self._path, self._in_thread)
        self._disk = DiskWatch(self._path)
        Diagnostics(self).add('recording', self._diagnose)

    def _create_topics(self) -> None:
        timed = self._cost.timed
        self.create_subscription(Float64MultiArray, 'applied_action', timed(self._on_applied), 50)
        self.create_subscription(Float64MultiArray, 'policy/tick', timed(self._on_tick), 50)
        # Groups of their own: their answers wait, and must not keep the others from theirs.
        for kind, name, callback in ((Trigger, '~/start', self._on_start),
                                     (SetBool, '~/stop', self._on_stop),
                                     (Trigger, '~/discard', self._on_discard)):
            self.create_service(kind, name, callback, callback_group=ReentrantCallbackGroup())
        self._running_episode = self.create_publisher(String, '~/recording', LATCHED)
        self._announced: str | None = None
        self.create_timer(SETTLE_PERIOD_S, timed(self._settle), clock=steady_clock())

    def _path(self) -> Path:
        return Path(value(self, 'dataset_path')).expanduser()

    def _recover(self) -> None:
        try:
            found = Dataset(self._path()).recover() if self._path().is_dir() else []
        except (DatasetError, OSError) as error:
            self.get_logger().error(f'nothing can be recorded there: {error}')
            return
        for item in found:
            self.get_logger().warning(item.message)

    def _on_applied(self, message: Float64MultiArray) -> None:
        try:
            step = decode_applied_action(message)
        except MessageError as error:
            self._refuse(error)
            return
        if self._armed and self._recording is None and self._early is None:
            self.executor.create_task(self._start_by_itself())
            self._early = deque(maxlen=MOST_EARLY)
        if self._early is not None:
            self._early.append((step, time.monotonic()))
        else:
            self._take(step, time.monotonic())

    def _take(self, step: AppliedAction, now: float) -> None:
        if self._recording is None or self._ending is not None:
            return
        for entry in self._input.in_force.items():
            self._recording.note(*entry)
        self._recording.add(step, now)
        longest = value(self, 'max_steps')
        if longest and self._recording.taken >= longest:
            self._end_by_itself('max_steps')

    def _on_tick(self, message: Float64MultiArray) -> None:
        try:
            self._heard.append((decode_tick(message), time.monotonic()))
        except MessageError as error:
            self._refuse(error)
            return
        if self._recording is not None:
            self._recording.add_tick(*self._heard[-1])

    def _refuse(self, error: MessageError) -> None:
        self._input.bad_messages += 1
        self.get_logger().error(str(error), throttle_duration_sec=2.0)

    async def _on_start(self, _, response: Trigger.Response) -> Trigger.Response:
        try:
            if self._early is not None:
                raise EpisodeError('an episode is being begun already')
            return answer(self, response, True, await self._start())
        except REFUSALS as error:
            return answer(self, response, False, str(error))

    async def _start_by_itself(self) -> None:
        try:
            self.get_logger().info(await self._start())
        except REFUSALS as error:
            self.get_logger().error(str(error), throttle_duration_sec=2.0)

    async def _start(self) -> str:
        try:
            if self._recording is not None:
                raise EpisodeError('an episode is being recorded; stop or discard it first')
            if missing := self._input.missing():
                raise EpisodeError(f'cannot record: {"; ".join(missing)}')
            meta = EpisodeMeta(**told(self), **self._input.known())
            if self._early is None:
                self._early = deque(maxlen=MOST_EARLY)
            recorder, number, dataset = await self._in_thread(partial(
                begin, self._path(), value(self, 'image_codec'), meta,
                1e9 * value(self, 'minimum_free_disk')))
            self._input.keeps_jpeg = dataset.codec.kind == JPEG
            self._recording = Recording(
                recorder, dataset.episode_path(number), self._input.alignment, self._period_s,
                self._input.max_image_age_s, self._input.sha256s, self._input.scales,
                self._input.interruptions)
            self._armed = False
            for tick, at in self._heard:
                self._recording.add_tick(tick, at)
            for step, at in self._early:
                self._take(step, at)
        finally:
            self._early = None
        return (f'recording episode {number} to {self._path()}: task {meta.task!r}, '
                f'operator {meta.operator!r}, notes {meta.notes!r}')

    async def _on_stop(self, request: SetBool.Request, response: SetBool.Response):
        try:
            self._begin_end(request.data)
            return answer(self, response, True, str(await self._end()))
        except REFUSALS as error:
            return answer(self, response, False, str(error))

    def _begin_end(self, success: bool | None) -> None:
        if self._recording is None or self._ending is not None:
            last = '; ~/label_last labels the last one' if self._labels.last else ''
            raise EpisodeError(f'no episode is being recorded; start one first{last}')
        self._ending, self._verdict = Future(), success
        self._expected = self._labels.expect() if self._recording.taken else None
        self._ending_deadline = time.monotonic() + FINAL_WAIT_S

    async def _end(self, why: str = '') -> RecordingSummary:
        await self._ending  # `_settle` waits for what came after the last action
        recording, self._recording, self._ending = self._recording, None, None
        self._armed = why in BY_ITSELF and value(self, 'record_again')
        return await self._labels.follow(
            self._expected, self._in_thread(partial(recording.finish, self._verdict, why)))

    def _end_by_itself(self, why: str) -> None:
        async def end() -> None:
            try:
                summary = await self._end(why)
                self.get_logger().info(f'ended by {why}: {summary}; judge it by ~/label_last')
            except REFUSALS as error:
                self.get_logger().error(str(error))
        self._begin_end(None)
        self.executor.create_task(end())

    def _in_thread(self, work) -> Future:
        """Run in a thread: the disk may take as long as it wants."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        future, thread = run_in_thread(self.executor, work, 'episode sealer')
        self._threads.append(thread)
        return future

    def _settle(self) -> None:
        recording = self._recording
        name = recording.path.stem if recording is not None else ''
        if name != self._announced:
            self._announced = name
            self._running_episode.publish(String(data=name))
        if recording is None:
            return
        now = time.monotonic()
        recording.settle(now)
        if self._ending is None:
            longest = value(self, 'max_duration')
            if recording.recorder.ended_why:
                self._end_by_itself(recording.recorder.ended_why)
            elif longest and now - recording.begun_s >= longest:
                self._end_by_itself('max_duration')
        elif not self._ending.done() and (recording.settled or now > self._ending_deadline):
            recording.settle(now, everything=True)
            self._ending.set_result(None)

    def _hand_over_all(self) -> None:
        if self._recording is not None:
            self._recording.settle(time.monotonic(), everything=True)

    async def _on_discard(self, _, response: Trigger.Response) -> Trigger.Response:
        if self._recording is None or self._ending is not None:
            return answer(self, response, False, 'no episode is being recorded')
        recording, self._recording = self._recording, None
        recording.settle(time.monotonic(), everything=True)
        try:
            by = value(self, 'operator') or self.get_name()
            said = await self._in_thread(partial(recording.discard, f'~/discard, {by}'))
            return answer(self, response, True, said)
        except REFUSALS as error:
            return answer(self, response, False, str(error))

    def destroy_node(self) -> None:
        """Save a running episode as interrupted, then destroy the node."""
        self._disk.close()
        for thread in self._threads:
            thread.join()
        recording, self._recording = self._recording, None
        if recording is not None:
            self._save(recording)
        super().destroy_node()

    def _save(self, recording: Recording) -> None:
        recording.settle(time.monotonic(), everything=True)
        try:
            if not recording.steps:
                recording.discard('nothing was recorded')
            elif self._ending is not None:  # it only waited for a last image
                self._say(str(recording.finish(self._verdict)))
            else:
                self._say(f'interrupted: {recording.finish(None, "shutdown", interrupted=True)}')
        except REFUSALS as error:
            self._say(str(error))

    def _say(self, text: str) -> None:
        if self.context.ok():
            self.get_logger().warning(text)
        else:  # after Ctrl-C a logger complains that it cannot publish
            print(f'{self.get_name()}: {text}', file=sys.stderr, flush=True)

    def _diagnose(self) -> tuple[bytes, str, dict]:
        level, text, values = judge(self._recording, self._disk, self._input.missing(),
                                    1e9 * value(self, 'minimum_free_disk'))
        if self._recording is not None and self._recording.recorder.dropped:
            self.get_logger().error(text, throttle_duration_sec=10.0)
        return level, text, {'dataset_path': value(self, 'dataset_path'), **values,
                             'bad_messages': self._input.bad_messages, **self._cost.values()}


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    gc.freeze()  # what is imported needs no looking through in the middle of an episode
    return spin_node(EpisodeLoggerNode, args)


if __name__ == '__main__':
    sys.exit(main())
