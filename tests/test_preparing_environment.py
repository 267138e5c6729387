"""What `make` prepares: the Python that was asked for, and a backend that can draw."""

import importlib.util
import os
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[1]
VERSION = '{}.{}'.format(*sys.version_info)


@pytest.fixture
def environment(tmp_path):
    """Give a function that puts a Python of some version into a finished virtual environment."""
    def make(version):
        path = tmp_path / 'venv'
        (path / 'bin').mkdir(parents=True)
        (path / 'bin' / 'python').write_text(f'#!/bin/sh\necho {version}\n')
        (path / 'bin' / 'python').chmod(0o755)
        (path / '.ready').touch()  # nothing is to be installed
        return path
    return make


def make_venv(path, *arguments):
    kept = {name: value for name, value in os.environ.items()
            if name not in ('MAKEFLAGS', 'MAKELEVEL', 'MAKEOVERRIDES', 'PYTHON', 'VENV')}
    return subprocess.run(['make', '-C', ROOT, f'VENV={path}', *arguments, 'venv'],
                          capture_output=True, text=True, env=kept, timeout=60)


def test_an_environment_of_another_python_than_the_one_asked_for_is_refused(environment):
    path = environment('3.9')
    done = make_venv(path, f'PYTHON={sys.executable}')
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == (
        f'make: {path} has Python 3.9, and {sys.executable} is {VERSION}; '
        f'delete it first: rm -rf {path}')


@pytest.mark.parametrize(('version', 'arguments'), [
    (VERSION, [f'PYTHON={sys.executable}']), ('3.9', [])])
def test_an_environment_of_that_python_or_of_any_where_none_is_asked_for_is_kept(
        environment, version, arguments):
    done = make_venv(environment(version), *arguments)
    assert (done.returncode, done.stderr) == (0, '')


@pytest.fixture
def ensure_gl():
    spec = importlib.util.spec_from_file_location('ensure_gl', ROOT / '.ci' / 'ensure_gl.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_the_backend_that_will_draw_counts_as_drawing(ensure_gl, monkeypatch):
    monkeypatch.setenv('MUJOCO_GL', 'disabled')
    assert not ensure_gl.complete()


def test_a_driver_that_hangs_counts_as_one_that_does_not_work(ensure_gl):
    assert not ensure_gl.works('import time; time.sleep(60)', limit_s=0.5)
    assert ensure_gl.works('')
