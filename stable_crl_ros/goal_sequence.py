"""Several goals one after another: which is active, and what moves it on."""

from collections.abc import Sequence

from stable_crl_ros.goals import Goal, GoalError


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
        self.finished = False  # the last is reached, and stays
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
        if name != self.active.name or self.finished:
            return False
        if not self.step(1):
            self.finished = True
        return True

    def step(self, by: int) -> bool:
        """
        Go on (1) or back (-1).

        :returns: whether another goal is active; beyond both ends only with `loop`.
        """
        target = self.index + by
        if self.loop:
            target %= self.count
        if target == self.index or not 0 <= target < self.count:
            return False
        self.index, self.finished = target, False
        return True
