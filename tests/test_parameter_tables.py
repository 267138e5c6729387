"""The parameter tables in docs/ are those of the nodes as they are."""

import subprocess
import sys

from conftest import ROOT


def test_the_tables_are_what_the_nodes_declare():
    script = ROOT / 'docs' / 'make_parameters.py'
    done = subprocess.run([sys.executable, str(script), '--check'], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f'run {script}: {done.stderr}'
