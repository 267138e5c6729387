"""The parameter tables in doc/ are those of the nodes as they are."""

import importlib.util

from conftest import ROOT


def test_the_tables_are_what_the_nodes_declare():
    path = ROOT / 'doc' / 'make_parameters.py'
    spec = importlib.util.spec_from_file_location('make_parameters', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PATH.read_text() == module.tables(), f'run {path}'
