"""One running episode: what the arm did, put together with what was seen, and handed on."""

from collections import Counter, deque
import contextlib
from dataclasses import dataclass
import math

from stable_crl_ros.data.alignment import Alignment
from stable_crl_ros.data.recorder import EpisodeRecorder, RecordingSummary
from stable_crl_ros.data.schema import Action, Mode, Observation
from stable_crl_ros.nodes.messages import AppliedAction
from stable_crl_ros.robot.safety import flag_names, StepFlag

SETTLE_S = 0.15  # image, state and progress of a step are under way for less than this
PROGRESS_WINDOW_S = 0.1
POLICY_FRESH_S = 1.0
LATE_FACTOR = 1.5
# Refused before the arm considered them: nothing was decided, so they are no control steps.
NO_STEP = (StepFlag.STALE | StepFlag.FUTURE | StepFlag.OVERRIDDEN | StepFlag.HELD
           | StepFlag.TOO_SOON)


@dataclass
class _Pending:
    step: AppliedAction
    arrived_s: float
    intervention: bool


class Recording:
    """
    Turn applied actions into the steps of one episode, in order.

    Times called `now` are monotonic seconds.

    :param recorder: one that has been started.
    :param period_s: control period, s.
    :param max_image_age_s: a step whose image is older has no image and is counted as dropped.
    """

    def __init__(self, recorder: EpisodeRecorder, alignment: Alignment, period_s: float,
                 max_image_age_s: float) -> None:
        self.refused: Counter[str] = Counter()
        self.late = self.steps = 0
        self._recorder, self._alignment = recorder, alignment
        self._period_s, self._max_image_age_s = period_s, max_image_age_s
        self._pending: deque[_Pending] = deque()
        self._progress: list[tuple[float, float]] = []
        self._changes: dict[str, list[list]] = {'checkpoints': [], 'goals': []}
        self._policy_heard_s = -math.inf
        self._held = False
        self._last: AppliedAction | None = None
        self._after: Observation | None = None

    def add(self, step: AppliedAction, now: float) -> None:
        """Take one applied action as it arrives."""
        if step.mode is Mode.POLICY:
            self._policy_heard_s = now
        if step.flags & NO_STEP:
            self.refused.update(flag_names(step.flags & NO_STEP))
        if not step.flags & NO_STEP or step.flags & StepFlag.HELD:
            policy_runs = now - self._policy_heard_s < POLICY_FRESH_S
            self._pending.append(_Pending(step, now, step.mode is Mode.TELEOP and policy_runs))

    def add_progress(self, progress: float, now: float) -> None:
        """Take what the policy's critic said about the step it is sending."""
        self._progress = [old for old in self._progress if now - old[0] < 1.0]
        self._progress.append((now, progress))

    def note(self, what: str, name: str) -> None:
        """
        Note which checkpoint or goal is in force from the next step on.

        :param what: 'checkpoints' or 'goals'.
        """
        if name and (not self._changes[what] or self._changes[what][-1][1] != name):
            self._changes[what].append([self.steps + len(self._pending), name])

    def settle(self, now: float, everything: bool = False) -> None:
        """
        Hand over the steps whose image and states have had time to arrive.

        :param everything: do not wait for what may still come.
        """
        while self._pending and (everything or now - self._pending[0].arrived_s >= SETTLE_S):
            self._hand_over(self._pending.popleft())
        if self._last is not None and self._after is None:
            due = self._last.applied_ns + int(self._period_s * 1e9)
            with contextlib.suppress(ValueError):  # an image that cannot be decoded: the next may
                self._after = self._alignment.seen_after(due, self._max_image_age_s)

    @property
    def settled(self) -> bool:
        """Say whether every step is handed over and what came after the last was seen."""
        return not self._pending and (self._after is not None or self._last is None)

    def finish(self, success: bool | None = None, interrupted: bool = False) -> RecordingSummary:
        """
        Seal the episode; blocks for as long as the disk takes.

        :raises stable_crl_ros.data.episode.EpisodeError: when no step was recorded, or the disk
            refuses.
        """
        return self._recorder.stop(
            success, self._after, interrupted=interrupted, late=self.late,
            attributes={**self._changes, 'refused': dict(self.refused)})

    def discard(self) -> int:
        """Throw the episode away and return its number."""
        return self._recorder.discard()

    @property
    def dropped(self) -> int:
        """Steps lost so far."""
        return self._recorder.dropped

    @property
    def error(self) -> str:
        """Why steps were lost, '' if none."""
        return self._recorder.error

    def _hand_over(self, pending: _Pending) -> None:
        step = pending.step
        if step.flags & StepFlag.HELD:
            self._held = self._last is not None
            return
        if self._held:
            self._recorder.lose('the arm was stopped during the episode')
            self._held = False
        try:
            observation = self._alignment.seen_at(step.capture_ns, self._max_image_age_s)
        except ValueError as error:
            self._recorder.lose(str(error))
            return
        if observation is None:
            self._recorder.lose('no image that belongs to the command')
            return
        self._count_late(step)
        self._last, self._after = step, None
        self.steps += self._recorder.record(observation, Action(
            action=step.applied, commanded_action=step.commanded, mode=step.mode,
            command_stamp=step.receive_ns, applied_stamp=step.applied_ns,
            intervention=pending.intervention, flags=int(step.flags),
            progress=self._progress_of(pending)))

    def _count_late(self, step: AppliedAction) -> None:
        last = self._last
        if last is not None and last.mode is step.mode is Mode.POLICY:
            gap_s = (step.receive_ns - last.receive_ns) * 1e-9
            self.late += gap_s > LATE_FACTOR * self._period_s

    def _progress_of(self, pending: _Pending) -> float:
        if pending.step.mode is not Mode.POLICY:
            return math.nan
        near = [entry for entry in self._progress
                if abs(entry[0] - pending.arrived_s) < PROGRESS_WINDOW_S]
        if not near:
            return math.nan
        best = min(near, key=lambda entry: abs(entry[0] - pending.arrived_s))
        self._progress.remove(best)
        return best[1]
