"""Which rows of a suite's table are told apart, so that no page has to judge it by eye."""

from collections.abc import Sequence
from itertools import combinations

from stable_crl_ros.experiments.lines import DATA, Line
from stable_crl_ros.experiments.plan import Case
from stable_crl_ros.significance import difference_interval

REFERENCE = 'as it is'  # the label of the row that the others of its table are changes of


def ahead(first: Line, second: Line, case: Case, outcome: str = 'strict') -> bool:
    """
    Tell whether one row is ahead of another.

    :returns: whether Newcombe's 95 % interval of the difference, for policies of any seed, lies
        above 0; not where one of them was not scored.
    """
    found = [line.worth(_asked(line, case), outcome) for line in (first, second)]
    if None in found:
        return False
    (won, trials), (others_won, others_trials) = found
    return difference_interval((won, others_won), (trials, others_trials))[0] > 0.0


def _asked(line: Line, case: Case) -> Case:
    # A control acts alike whatever is drawn from a policy, and whatever it looks at.
    return case if line.seeds else Case(case.task)


def compared(lines: Sequence[Line]) -> list[tuple[Line, Line]]:
    """
    Return the pairs of a table's trained rows that are compared.

    :returns: every pair, or, in a table of changes to one row, each with that one. Rows first that
        stand first.
    """
    trained = [line for line in lines if line.seeds]
    if trained and trained[0].label == REFERENCE:
        return [(trained[0], line) for line in trained[1:]]
    return list(combinations(trained, 2))


def format_differences(lines: Sequence[Line], cases: Sequence[Case], heading: str,
                       outcome: str = 'strict') -> str:
    """
    Lay out who is ahead of whom: a row for each policy that is ahead of another on some goal.

    :param cases: the columns.
    :param heading: of what is compared.
    :returns: a Markdown table, of which the last row names those that are not ahead of the data's
        own actions, and how many differences were looked at.
    """
    trained = [line for line in lines if line.seeds]
    pairs = compared(lines)
    rows = [[f'ahead of, {heading}', *(case.task for case in cases)],
            ['---'] * (len(cases) + 1)]
    for line in trained:
        others = [first if second is line else second for first, second in pairs
                  if line in (first, second)]
        cells = [_name([other for other in others if ahead(line, other, case, outcome)], others)
                 for case in cases]
        if any(cells):
            rows.append([line.label, *cells])
    rows += [[f'not ahead of {DATA}', *(_name(
        [line for line in trained if not ahead(line, data, case, outcome)], trained)
        for case in cases)] for data in lines if data.label == DATA]
    looked = sum(all(line.worth(case, outcome) for line in pair)
                 for pair in pairs for case in cases)
    table = '\n'.join(f'| {" | ".join(row)} |' for row in rows)
    return (f'{table}\n\nOf {looked} differences between rows. Where nothing differs, about one '
            'in twenty is told apart all the same.')


def _name(found: Sequence[Line], of: Sequence[Line]) -> str:
    if len(found) == len(of) > 1:
        return 'all'
    return '; '.join(line.label for line in found)
