"""What a suite counts of each policy on each case, and the files that keep it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
import json
import math
from pathlib import Path

from stable_crl_ros.durable import write_atomic
from stable_crl_ros.evaluation import Score
from stable_crl_ros.experiments.comparisons import APPEARANCES
from stable_crl_ros.experiments.plan import Case, GOALS, PlanError

SCORES = 'scores.json'


@dataclass(frozen=True)
class Tally:
    """
    What became of a policy's trials on one case; the counts that tables are made of.

    :param arm_only: trials that ended with the arm within 3 cm of the goal picture's and an
        object outside the loose tolerance.
    :param median_error: metres, of the object that is furthest off.
    """

    case: Case
    trials: int
    strict: int
    loose: int
    arm_only: int
    median_error: float

    ARM_NEAR = 0.03  # m

    @classmethod
    def of(cls, case: Case, score: Score) -> 'Tally':
        """Count a score's trials."""
        errors = sorted(trial.error for trial in score.trials)
        return cls(case, len(errors), score.successes(), score.successes(loose=True),
                   sum(trial.arm_error <= cls.ARM_NEAR and not trial.success_loose
                       for trial in score.trials), errors[len(errors) // 2])

    def to_dict(self) -> dict:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping) -> 'Tally':
        """
        Read what `to_dict` wrote.

        :raises PlanError: for what is none, or counts that cannot be.
        """
        try:
            found = cls(**{**values, 'case': Case(**values['case'])})
        except (KeyError, TypeError) as error:
            raise PlanError(f'{values!r:.200} are no counts of trials') from error
        if wrong := found._find_wrong():
            raise PlanError(f'{wrong} cannot be, in the counts {values!r:.300}')
        return found

    def _find_wrong(self) -> str | None:
        case = self.case
        if case.task not in GOALS or case.appearance not in APPEARANCES \
                or not isinstance(case.sampled, bool):
            return 'the case'
        # From few to many; those with the arm alone in place are no successes.
        counts = {'strict': self.strict, 'loose': self.loose, 'trials': self.trials}
        for name, count in {**counts, 'arm_only': self.arm_only}.items():
            if type(count) is not int or count < 0:
                return f'{name} {count!r}'
        if not self.strict <= self.loose <= self.trials - self.arm_only or self.trials < 1:
            return 'more successes than trials' if self.trials else 'no trials'
        median = self.median_error
        if not isinstance(median, (int, float)) or not math.isfinite(median) or median < 0.0:
            return f'median_error {median!r}'
        return None


def read_tallies(path: Path) -> dict[Case, Tally]:
    """
    Read a scores file; empty where there is none.

    :raises PlanError: for a file that cannot be read as one.
    """
    if not path.exists():
        return {}
    try:
        tallies = [Tally.from_dict(values) for values in json.loads(path.read_text())]
    except (ValueError, TypeError, AttributeError) as error:
        raise PlanError(f'{path} cannot be read ({error}); move it away, and its trials are made '
                        'anew') from error
    return {tally.case: tally for tally in tallies}


def write_tallies(path: Path, tallies: Mapping[Case, Tally]) -> None:
    """Write a scores file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps([tallies[case].to_dict() for case in sorted(tallies)],
                                  indent=1).encode())
