"""When a goal counts as reached: a rule over the probability of being there."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ArrivalRule:
    """
    Reached is a goal at which the arm stays, not one that it passes.

    Ticks with a probability of `threshold` or more are counted. Below `release` the count starts
    anew; between the two it keeps, so that noise around the threshold delays but does not undo.

    :param threshold: probability, 0..1.
    :param release: probability, 0..threshold.
    :param ticks: how many have to be counted, > 0.
    :raises ValueError: for a value out of range.
    """

    threshold: float = 0.65
    release: float = 0.3
    ticks: int = 3

    def __post_init__(self) -> None:
        """Refuse what could never, or would always, be reached."""
        if not 0.0 <= self.release <= self.threshold <= 1.0 or self.ticks < 1:
            raise ValueError(f'a goal counts as reached by 0 <= release <= threshold <= 1 and '
                             f'ticks >= 1; got {self.release}, {self.threshold} and {self.ticks}')


class Arrival:
    """
    Watches one goal; `done` stays once it is reached, until `reset`.

    :param rule: may be replaced at any time.
    """

    def __init__(self, rule: ArrivalRule = ArrivalRule()) -> None:
        self.rule = rule
        self.done = False
        self._count = 0

    def reset(self) -> None:
        """Begin anew, for another goal."""
        self.done, self._count = False, 0

    def update(self, at_goal: float) -> bool:
        """
        Take the probability of one tick, NaN where there is none.

        :returns: whether the goal has just been reached: True once until `reset`.
        """
        if at_goal >= self.rule.threshold:
            self._count += 1
        elif not at_goal >= self.rule.release:
            self._count = 0
        reached = not self.done and self._count >= self.rule.ticks
        self.done = self.done or reached
        return reached
