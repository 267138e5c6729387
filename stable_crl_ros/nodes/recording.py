"""One running episode: what the arm did, put together with what was seen, and handed on."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
import json
import math
from pathlib import Path
import time

import numpy as np
from stable_crl_ros.data.alignment import Alignment, UnseenError
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.recorder import EpisodeRecorder, RecordingSummary
from stable_crl_ros.data.schema import (
    Action,
    checkpoint_number,
    EpisodeMeta,
    Mode,
    Observation,
)
from stable_crl_ros.nodes.messages import AppliedAction, PolicyTick
from stable_crl_ros.robot.control_steps import NO_STEP, POLICY_FRESH_S
from stable_crl_ros.robot.flags import flag_names, StepFlag

SETTLE_S = 0.1  # image and state of a step are under way for less than this
TELL_S = 0.3  # and what the policy says of it for less than this
LOOKS = 3  # and it is looked for so often: what waits here after a standstill is not missed
TICKS_KEPT_S = 1.0
LATE_FACTOR = 1.5
OF_THE_POLICY = ('checkpoints', 'scales')


@dataclass
class _Pending:
    step: AppliedAction
    arrived_s: float
    intervention: bool
    look: int  # at which it arrived
    in_force: dict[str, str]  # as `note` was told before it arrived
    tick: PolicyTick | None = None  # what the policy said of it


def begin(path: Path, image_codec: str, meta: EpisodeMeta,
          minimum_free: float) -> tuple[EpisodeRecorder, int, Dataset]:
    """
    Begin an episode; blocks for as long as the disk takes.

    :param path: of the dataset, which is made when it is not there.
    :param image_codec: '' for the dataset's own.
    :param minimum_free: bytes of disk to leave free.
    :returns: a started recorder, the episode's number, and the dataset.
    :raises EpisodeError: when the disk refuses or is nearly full.
    :raises DatasetError: when it is none, has another codec, or another process writes it.
    """
    dataset = Dataset(path, create=True, image_codec=image_codec or None)
    recorder = EpisodeRecorder(dataset, minimum_free_bytes=int(minimum_free))
    try:
        return recorder, recorder.start(meta), dataset
    except Exception:
        recorder.close()
        raise


class Recording:
    """
    Turn applied actions into the steps of one episode, in order.

    Times called `now` are monotonic seconds.

    :param recorder: one that has been started.
    :param path: where the episode will be.
    :param period_s: control period, s.
    :param max_image_age_s: a step whose image is older has no image and is counted as dropped.
    :param sha256s: of the checkpoints that are known, by their first digits; it may grow.
    :param scales: their action scales as JSON, by sha256; it may grow.
    :param interruptions: when nobody might steer the arm any more, ns, and what it was then; they
        may grow.
    """

    def __init__(self, recorder: EpisodeRecorder, path: Path, alignment: Alignment,
                 period_s: float, max_image_age_s: float, sha256s: Mapping[str, str],
                 scales: Mapping[str, str], interruptions: Iterable[tuple[int, str]]) -> None:
        self.path = path
        self._sha256s, self._scales, self._interruptions = sha256s, scales, interruptions
        self.refused: Counter[str] = Counter()
        self.late = self.steps = 0
        self.begun_s = time.monotonic()
        self.recorder, self._alignment = recorder, alignment
        self._period_s, self._max_image_age_s = period_s, max_image_age_s
        self._pending: deque[_Pending] = deque()
        self._ticks: deque[tuple[float, PolicyTick]] = deque()  # those no step has taken yet
        self._in_force: dict[str, str] = {}
        self._changes: dict[str, list[list]] = {
            'checkpoints': [], 'scales': [], 'goals': [], 'modes': []}
        self._policy_heard_s = -math.inf
        self._look = 0
        self._interrupted = ''  # what the arm was since the last step, '' for nothing
        self._last: AppliedAction | None = None
        self._after: Observation | None = None

    @property
    def taken(self) -> int:
        """Steps taken in so far, those included that wait for what belongs to them."""
        return self.steps + sum(not entry.step.flags & NO_STEP for entry in self._pending)

    def add(self, step: AppliedAction, now: float) -> None:
        """Take one applied action as it arrives."""
        if step.mode is Mode.POLICY:
            self._policy_heard_s = now
        if step.flags & NO_STEP:
            self.refused.update(flag_names(step.flags & NO_STEP))
        if not step.flags & NO_STEP or step.flags & StepFlag.HELD:
            policy_runs = now - self._policy_heard_s < POLICY_FRESH_S
            self._pending.append(_Pending(step, now, step.mode is Mode.TELEOP and policy_runs,
                                          self._look, dict(self._in_force)))

    def add_tick(self, tick: PolicyTick, now: float) -> None:
        """Take what the policy says of a command that it sends."""
        while self._ticks and now - self._ticks[0][0] > TICKS_KEPT_S:
            self._ticks.popleft()
        self._ticks.append((now, tick))

    def note(self, what: str, name: str) -> None:
        """
        Note what is in force from the next step on.

        :param what: 'checkpoints', 'scales', 'goals' or 'modes'.
        :param name: '' for nothing new.
        """
        if name:
            self._in_force[what] = name

    def settle(self, now: float, everything: bool = False) -> None:
        """
        Hand over the steps for which nothing more can come.

        :param everything: do not wait for what may still come.
        """
        self._look += 1
        while self._pending and (everything or self._complete(self._pending[0], now)):
            self._hand_over(self._pending.popleft())
        if self._last is not None and self._after is None:
            due = self._last.applied_ns + int(self._period_s * 1e9)
            self._after = self._alignment.seen_after(due, self._max_image_age_s,
                                                     waiting=not everything)

    def _complete(self, pending: _Pending, now: float) -> bool:
        def waited(seconds: float) -> bool:
            return now - pending.arrived_s >= seconds and self._look - pending.look > LOOKS
        if pending.tick is None:
            pending.tick = self._take_tick(pending.step)
            if pending.tick is None and pending.step.mode is Mode.POLICY and not waited(TELL_S):
                return False
        return waited(SETTLE_S) or self._alignment.passed(pending.step.capture_ns)

    @property
    def settled(self) -> bool:
        """Say whether every step is handed over and what came after the last was seen."""
        return not self._pending and (self._after is not None or self._last is None)

    def finish(self, success: bool | None, why: str = '',
               interrupted: bool = False) -> RecordingSummary:
        """
        Seal the episode; blocks for as long as the disk takes.

        :param success: None when nobody judged.
        :param why: it ended by itself, '' when it did not.
        :raises stable_crl_ros.data.episode.EpisodeError: when no step was recorded, or the disk
            refuses.
        """
        try:
            return self.recorder.stop(
                success, self._after, interrupted=interrupted, late=self.late, ended_why=why,
                attributes={**self._provenance(), 'refused': dict(self.refused)})
        finally:
            self.recorder.close()

    def _provenance(self) -> dict:
        """Return what the steps were taken under, the policy's part only where it acted."""
        noted = dict(self._changes)
        scales = {scale for _, scale in noted.pop('scales')}
        return {**noted, 'checkpoint': noted['checkpoints'][0][1] if noted['checkpoints'] else '',
                # Of two policies with scales of their own, neither's is that of the episode.
                'action_scale': json.loads(scales.pop()) if len(scales) == 1 else None}

    def health(self, free: float) -> dict[str, object]:
        """
        Return what /diagnostics shows.

        :param free: bytes of the disk that are free.
        """
        return {
            'episode': self.path.stem, 'steps': self.steps, 'late': self.late,
            'dropped': self.recorder.dropped,
            **{f'dropped_{stream}': count for stream, count in self.recorder.drops.items()},
            **{f'refused_{name}': count for name, count in self.refused.items()},
            'queue_fill': f'{self.recorder.queue_fill:.2f}',
            'write_rate_mb_s': f'{self.recorder.write_rate / 1e6:.1f}',
            'minutes_left': f'{self.recorder.minutes_left(free):.0f}'}

    def discard(self, why: str) -> str:
        """
        End the episode as one that nobody wants; blocks for as long as the disk takes.

        :returns: what became of it, one line.
        :raises stable_crl_ros.data.episode.EpisodeError: when the disk refuses.
        """
        dropped, size = self.recorder.dropped, self.recorder.bytes_written
        try:
            number = self.recorder.discard(why)
        finally:
            self.recorder.close()
        return (f'discarded episode {number}: {self.steps} steps, {dropped} dropped, '
                f'{size / 1e6:.2f} MB' + (f', {self.path}; `stable-crl episodes restore` '
                                          'brings it back' if self.steps else ''))

    def _hand_over(self, pending: _Pending) -> None:
        step = pending.step
        pending.tick = pending.tick or self._take_tick(step)
        if step.flags & StepFlag.HELD:
            self._interrupted = 'stopped' if self._last is not None else ''
            return
        if interrupted := self._interrupted or self._interruption(step):
            self.recorder.lose(f'the arm was {interrupted} during the episode')
            self._interrupted = ''
        try:
            observation = self._alignment.seen_at(step.capture_ns, self._max_image_age_s)
        except UnseenError as error:
            self.recorder.lose(str(error), error.stream)
            return
        self._count_late(step)
        if not self.recorder.record(observation, Action(
                action=step.applied, commanded_action=step.commanded, mode=step.mode,
                command_stamp=step.receive_ns, applied_stamp=step.applied_ns,
                intervention=pending.intervention, flags=int(step.flags),
                **_told(pending.tick))):
            return
        self._last, self._after = step, None
        self._note_changes(pending)
        self.steps += 1

    def _interruption(self, step: AppliedAction) -> str:
        """Say what the arm was between the last step and this one, '' when it only waited."""
        if self._last is None:
            return ''
        return next((what for at_ns, what in self._interruptions
                     if self._last.applied_ns < at_ns <= step.applied_ns), '')

    def _note_changes(self, pending: _Pending) -> None:
        if pending.tick is not None:  # it knows better than what was heard at about that time
            acted = self._sha256s.get(pending.tick.checkpoint, pending.tick.checkpoint)
            pending.in_force |= {'checkpoints': acted, 'scales': self._scales.get(acted, '')}
        for what, name in pending.in_force.items():
            known = self._changes[what]
            acts = what not in OF_THE_POLICY or pending.step.mode is Mode.POLICY
            if name and acts and (not known or known[-1][1] != name):
                known.append([self.steps, name])

    def _count_late(self, step: AppliedAction) -> None:
        last = self._last
        if last is not None and last.mode is step.mode is Mode.POLICY:
            gap_s = (step.receive_ns - last.receive_ns) * 1e-9
            self.late += gap_s > LATE_FACTOR * self._period_s

    def _take_tick(self, step: AppliedAction) -> PolicyTick | None:
        """Return what the policy said of a step: of its image, and the command nearest to it."""
        def distance(entry: tuple[float, PolicyTick]) -> float:
            difference = np.abs(entry[1].action - step.commanded).max()
            return difference if np.isfinite(difference) else math.inf
        same_image = [entry for entry in self._ticks if step.mode is Mode.POLICY
                      and entry[1].capture_ns == step.capture_ns]
        best = min(same_image, key=distance, default=None)
        if best is None:
            return None
        self._ticks = deque(entry for entry in self._ticks if entry is not best)
        return best[1]


def _told(tick: PolicyTick | None) -> dict[str, float]:
    """Return what an `Action` takes of a tick."""
    if tick is None:
        return {}
    return {'progress': tick.value, 'steps_to_go': tick.steps_to_go, 'at_goal': tick.at_goal,
            'done': tick.done, 'checkpoint': checkpoint_number(tick.checkpoint),
            'image_age': tick.image_age_s, 'inference_time': tick.inference_s,
            'lateness': tick.lateness_s}
