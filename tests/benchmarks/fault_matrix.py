#!/usr/bin/env python3
"""Put every fault of the emulated bus into a running arm node; write docs/faults.md, README."""

import argparse
from pathlib import Path
import re
import sys

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tests'))

from fault_cases import AT_START, BUS, PACKETS, SERVOS  # noqa: E402
from fault_rig import GOES_ON, provoke, REFUSES  # noqa: E402

PATH = ROOT / 'docs' / 'faults.md'
README = ROOT / 'README.md'
BEGIN, END = '<!-- faults: begin -->\n', '<!-- faults: end -->\n'
IN_README = ('one answer in fifty with a wrong bit', 'every answer 50 ms late',
             'the elbow is dead', 'the shoulder restarts in mid-motion', 'overload of the gripper',
             'the cable is pulled out', 'the power is switched off', 'an arm with five joints')
HEAD = """# What the arm node does when something breaks

Made by `tests/benchmarks/fault_matrix.py`: an arm node with `driver: dynamixel` at {rate} Hz
steers the emulated servo bus (a process on a pseudo-terminal) back and forth, and each fault is
put into it in mid-motion. *Held* is the time from the fault to the last goal that moved, seen at
the servos (0: none moved after it); *latched* the time to mode `fault`. After every latched fault
`~/resume` was refused until `~/clear_faults` had answered as told, and the arm then moved again.
`tests/test_faults.py` asserts the outcomes. One run, on a machine of 2 cores."""
COLUMNS = ('fault', 'the node', 'held (ms)', 'latched (ms)', '/diagnostics, or the refusal',
           '`~/clear_faults` answered')


def row(case, result) -> str:
    """Return one line of the table."""
    went_on = case.outcome == GOES_ON
    held = 'went on' if went_on else '' if case.outcome == REFUSES else f'{result.held_ms:.0f}'
    latched = '' if result.latched_ms is None else f'{result.latched_ms:.0f}'
    said = result.said if case.outcome == REFUSES or went_on else result.said.split(' / ')[0]
    mended = ('holds; ' if case.asks else '') + result.mended
    cells = (case.name, case.outcome, held, latched, said, mended.split('; call ~/resume')[0])
    cells = (re.sub(r'/\S+/bus', 'PORT', cell.replace('|', '/')) for cell in cells)
    return f'| {" | ".join(cells)} |'


def excerpt(page: str) -> str:
    """Return the part of the tables that the README shows: a few faults, without what was said."""
    found = {cells[0]: cells[:4] for line in page.splitlines()
             if len(cells := line.strip('| ').split(' | ')) >= len(COLUMNS) - 1}
    rows = [COLUMNS[:4], ('---',) * 4, *(found[name] for name in IN_README)]
    return ''.join(f'| {" | ".join(row)} |\n' for row in rows)


def write_readme() -> None:
    """Put the excerpt between the README's markers."""
    before, rest = README.read_text().split(BEGIN)
    README.write_text(before + BEGIN + excerpt(PATH.read_text()) + END + rest.split(END)[1])


def main() -> int:
    """Run all cases and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--servo-rate', type=float, default=50.0)
    parser.add_argument('--only', default='', help='cases whose name holds this; nothing written')
    options = parser.parse_args()
    lines = [HEAD.format(rate=f'{options.servo_rate:g}')]
    for title, cases in (('Packets', PACKETS), ('Servos', SERVOS), ('Bus and power', BUS),
                         ('At the start', AT_START)):
        lines += [f'\n## {title}\n', f'| {" | ".join(COLUMNS)} |', '|---' * len(COLUMNS) + '|']
        for case in cases:
            if options.only in case.name:
                lines.append(row(case, provoke(case, servo_rate=options.servo_rate)))
                print(lines[-1], flush=True)
    if not options.only:
        PATH.write_text('\n'.join(lines) + '\n')
        write_readme()
    return 0


if __name__ == '__main__':
    sys.exit(main())
