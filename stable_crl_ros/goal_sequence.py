"""Several goals one after another: which is active, what moves it on, and how each ended."""

from collections.abc import Sequence
from dataclasses import dataclass

from stable_crl_ros.goals import Goal, GoalError

REACHED, TIMED_OUT, SKIPPED = 'reached', 'timed out', 'skipped'
LONGEST_PERIOD_S = 2.5  # the slowest policy acts every 2 s; whoever is silent longer does not act


@dataclass(frozen=True)
class Outcome:
    """
    How it went with a goal.

    :param how: REACHED, TIMED_OUT or SKIPPED.
    :param seconds: for how long the policy had acted on it.
    """

    how: str
    seconds: float

    def __str__(self) -> str:
        return f'{self.how} after {self.seconds:.1f} s'


class ActingTime:
    """Adds up the time between the steps in which the arm follows the policy."""

    def __init__(self) -> None:
        self._last_s: float | None = None

    def step(self, followed: bool, now_s: float) -> float:
        """
        Take one step of the arm.

        :param followed: whether it was the policy that the arm listened to.
        :param now_s: of a monotonic clock, s.
        :returns: for how long the policy has acted since the step before, s.
        """
        before, self._last_s = self._last_s, now_s if followed else None
        if before is None or not followed or now_s - before > LONGEST_PERIOD_S:
            return 0.0
        return now_s - before


class GoalSequence:
    """
    Goals to bring about in order; the first is active from the start.

    :param goals: at least one. A goal is known by its name, so no two pictures may share one, and
        none may follow itself: the word that the first is reached would be that of the second.
    :param loop: after the last, begin again.
    :raises GoalError: for goals that cannot be told apart.
    """

    def __init__(self, goals: Sequence[Goal], loop: bool = False) -> None:
        self._goals = list(goals)
        self.loop = loop
        self.index = 0
        self.finished = False  # the last is reached or timed out, and stays
        self.seconds = 0.0  # for how long the policy has acted on the active goal
        self.outcomes: dict[int, Outcome] = {}  # by index: how each ended, the last time
        self.last: Outcome | None = None  # the newest of them
        self._check()

    def _check(self) -> None:
        pictures: dict[str, Goal] = {}
        for goal in self._goals:
            if pictures.setdefault(goal.name, goal).sha256 != goal.sha256:
                raise GoalError(f'two goals are named {goal.name}: {pictures[goal.name].path} and '
                                f'{goal.path}; rename one')
        following = self._goals[1:] + (self._goals[:1] if self.loop and self.count > 1 else [])
        for goal, after in zip(self._goals, following, strict=False):
            if goal.name == after.name:
                raise GoalError(f'goal {goal.name} follows itself; leave one out')

    @property
    def count(self) -> int:
        """How many goals there are."""
        return len(self._goals)

    @property
    def goals(self) -> list[Goal]:
        """The goals, in order."""
        return list(self._goals)

    @property
    def active(self) -> Goal:
        """The goal to bring about now."""
        return self._goals[self.index]

    @property
    def place(self) -> str:
        """Where the sequence is, such as 'goal 2 of 3'."""
        return f'goal {self.index + 1} of {self.count}'

    def reached(self, name: str) -> bool:
        """
        Take word that a goal is reached; that of any but the active one is ignored.

        :returns: whether that changed anything: another goal is active, or `finished` became true.
        """
        return name == self.active.name and self.end(REACHED)

    def end(self, how: str) -> bool:
        """
        Be through with the active goal.

        :returns: whether that changed anything, as in `reached`.
        """
        if self.finished:
            return False
        if not self.step(1, how):
            self._note(how)
            self.finished = True
        return True

    def give_up(self) -> Outcome:
        """Note that the active goal timed out, stay with it, and let its time begin anew."""
        self._note(TIMED_OUT)
        self.seconds = 0.0
        return self.last

    def _note(self, how: str) -> None:
        self.last = self.outcomes[self.index] = Outcome(how, self.seconds)

    def step(self, by: int, how: str | None = None) -> bool:
        """
        Go on (1) or back (-1).

        :param how: noted of the goal that is left, unless it had ended; None: nothing.
        :returns: whether another goal is active; beyond both ends only with `loop`.
        """
        target = self.index + by
        if self.loop:
            target %= self.count
        if target == self.index or not 0 <= target < self.count:
            return False
        if how and not self.finished:
            self._note(how)
        self.index, self.finished, self.seconds = target, False, 0.0
        self.outcomes.pop(target, None)
        return True

    def told(self) -> dict[str, str]:
        """Return which goals ended how, and after how long: 'one after 3.2 s, ...' by outcome."""
        ended = {how: [f'{self._goals[index].name} after {outcome.seconds:.1f} s'
                       for index, outcome in sorted(self.outcomes.items()) if outcome.how == how]
                 for how in (REACHED, TIMED_OUT, SKIPPED)}
        return {how.replace(' ', '_'): ', '.join(goals) for how, goals in ended.items()}

    def summary(self) -> str:
        """Return how each goal ended, in order."""
        return ', '.join(f'{self._goals[index].name} {outcome}'
                         for index, outcome in sorted(self.outcomes.items()))
