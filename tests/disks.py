"""Disks that are small, read-only or slow, and people without root's rights."""

import contextlib
import os
import subprocess

import pytest


def run_unprivileged(function):
    """Run a function in a child without root's rights; return what it raised, as text."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            function()
            os.write(write_end, b'nothing was raised')
        except BaseException as error:
            os.write(write_end, f'{type(error).__name__}: {error}'.encode())
        os._exit(0)
    os.close(write_end)
    os.waitpid(pid, 0)
    with os.fdopen(read_end) as file:
        return file.read()


def mount(*arguments):
    """Mount a file system, or skip where that is not allowed."""
    done = subprocess.run(['mount', *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f'cannot mount a file system: {done.stderr.strip()}')


@contextlib.contextmanager
def disk_of(size, place):
    """Mount a file system of a size such as '1m' at a new folder, or skip where none can be."""
    place.mkdir()
    mount('-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', place)
    try:
        yield place
    finally:
        subprocess.run(['umount', '-l', place], check=True)


@pytest.fixture
def small_disk(tmp_path):
    """Give a file system of 1 MB, or skip where none can be mounted."""
    with disk_of('1m', tmp_path / 'disk') as place:
        yield place


@pytest.fixture
def read_only():
    """Give a function that makes a directory read-only, also for root."""
    mounted = []

    def make(path):
        mount('--bind', path, path)
        mounted.append(path)
        mount('-o', 'remount,bind,ro', path)

    yield make
    for path in mounted:
        subprocess.run(['umount', '-l', path], check=True)
