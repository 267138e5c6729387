"""When a fine-tuned checkpoint takes over: a stated rule, on paired or unpaired trials."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

from stable_crl_ros.significance import (
    difference_interval,
    fisher_exact,
    mcnemar_exact,
    paired_difference_interval,
)
from stable_crl_ros.trials.scores import Outcome, paired_table

RUNNING, CANDIDATE = 'running', 'candidate'  # labels of outcomes
BETTER = 'better'
RULES = (BETTER, 'not-worse')


class ImproveError(RuntimeError):
    """A loop that cannot begin, or must not go on."""


@dataclass(frozen=True)
class Decision:
    """
    What a rule made of the trials.

    :param both: scenes that both mastered, and so on; None where the trials were not paired.
    :param difference: of the rates, candidate minus running; `low` is its one-sided lower bound
        at the rule's level.
    :param p: one-sided exact p-value for the candidate's being better.
    :param why: in words.
    """

    adopt: bool
    running: tuple[int, int]
    candidate: tuple[int, int]
    both: int | None
    better: int | None
    worse: int | None
    neither: int | None
    difference: float
    low: float
    p: float
    why: str

    def to_dict(self) -> dict:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Rule:
    """
    Adopt a candidate that is better, or one that is not worse.

    'better' wants the one-sided exact test (McNemar's of paired trials, Fisher's of others) to
    reach `alpha`. 'not-worse' wants the lower bound of the difference of the success rates
    (Newcombe's, one-sided at the level `alpha`) above minus `margin`.

    :raises ImproveError: for an unknown rule or a level or margin outside 0..1.
    """

    name: str = BETTER
    alpha: float = 0.05
    margin: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what decides nothing."""
        if self.name not in RULES:
            raise ImproveError(f'no rule {self.name!r}; choose {" or ".join(RULES)}')
        if not 0.0 < self.alpha < 0.5 or not 0.0 < self.margin < 1.0:
            raise ImproveError(f'a rule needs 0 < alpha < 0.5 and 0 < margin < 1; got '
                               f'{self.alpha} and {self.margin}')

    def describe(self) -> str:
        """Say it in words."""
        if self.name == BETTER:
            return f'adopt when better: one-sided exact test, p <= {self.alpha:g}'
        return (f'adopt when not worse: success rate lower by less than '
                f'{100 * self.margin:g} points at the one-sided level {self.alpha:g}')

    def decide(self, outcomes: Sequence[Outcome], paired: bool) -> Decision:
        """
        Decide.

        :param outcomes: of the checkpoints `RUNNING` and `CANDIDATE`.
        :param paired: whether both met the same scenes.
        :raises ImproveError: when one of them has no trial.
        """
        counts = {name: [outcome.success for outcome in outcomes if outcome.checkpoint == name]
                  for name in (RUNNING, CANDIDATE)}
        if not all(counts.values()):
            raise ImproveError('no trials of one of the two checkpoints; nothing to decide')
        (old, of_old), (new, of_new) = ((sum(won), len(won)) for won in counts.values())
        z = NormalDist().inv_cdf(1.0 - self.alpha)
        table: tuple[int | None, ...] = (None,) * 4
        if paired:
            table = paired_table(outcomes, CANDIDATE, RUNNING)
            p = mcnemar_exact(table[1], table[2], one_sided=True)
            low = paired_difference_interval(*table, z)[0]
        else:
            p = fisher_exact((new, old), (of_new, of_old), one_sided=True)
            low = difference_interval((new, old), (of_new, of_old), z)[0]
        adopt = p <= self.alpha if self.name == BETTER else low > -self.margin
        why = (f'p = {p:.2g}, {"at most" if adopt else "above"} {self.alpha:g}'
               if self.name == BETTER else
               f'the lower bound is {100 * low:+.1f} points, {"above" if adopt else "not above"} '
               f'{-100 * self.margin:+g}')
        return Decision(adopt, (old, of_old), (new, of_new), *table,
                        new / of_new - old / of_old, low, p, why)
