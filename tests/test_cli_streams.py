"""Commands whose output nobody reads any more, as after `| head`, a pipe or a terminal closed."""

import errno
import io
import os
import subprocess
import sys

from learning_samples import OVERRIDES
import pytest
from stable_crl_ros import SHIPPED_CHECKPOINT
from stable_crl_ros.checkpoint import load_checkpoint
from stable_crl_ros.cli_streams import unheard

SETTINGS = [f'{name}={",".join(map(str, value)) if isinstance(value, tuple) else value}'
            for name, value in OVERRIDES.items()]


def start(*words, **streams):
    return subprocess.Popen([sys.executable, '-m', 'stable_crl_ros.cli', *map(str, words)],
                            text=True, **streams)


def closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_training_goes_on_to_its_end_when_its_pipe_is_closed(dots, tmp_path):
    out = tmp_path / 'run'
    process = start('train', dots, '--out', out, '--steps', 400, '--save-every', 100, '--set',
                    *SETTINGS, 'actor_decay_steps=7', '--log-every', 1, '--threads', 1,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout.readline()
    process.stdout.close()  # as `head -1` does
    assert process.wait(timeout=120) == 0
    assert load_checkpoint(out / 'latest.safetensors').metadata['step'] == 400


@pytest.mark.parametrize(('words', 'status'), [
    (['checkpoint', 'show', '--json'], 0), (['--help'], 0),
    (['checkpoint', 'show', '/no/such.safetensors'], 2)])
def test_a_command_ends_with_its_own_status_whoever_reads(words, status):
    pipe = closed_pipe()
    process = start(*words, stdout=pipe, stderr=pipe)
    os.close(pipe)
    assert process.wait(timeout=60) == status


def test_scores_are_written_although_nobody_reads_the_table(tmp_path):
    pipe, out = closed_pipe(), tmp_path / 'scores.json'
    process = start('evaluate', SHIPPED_CHECKPOINT, '--task', 'open_drawer', '--episodes', 1,
                    '--workers', 1, '--json', out, stdout=pipe, stderr=pipe)
    os.close(pipe)
    assert process.wait(timeout=120) == 0
    assert '"task": "open_drawer"' in out.read_text()


def test_a_disk_that_is_full_is_told():
    with open('/dev/full', 'w') as full:
        process = start('checkpoint', 'show', stdout=full, stderr=subprocess.PIPE)
        said = process.communicate(timeout=60)[1]
    assert process.returncode != 0 and 'No space left on device' in said


def test_what_stands_in_for_a_stream_is_gone_afterwards(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, 'stdout', stream)
    with unheard():
        print('heard')
        assert not sys.stdout.isatty()
    assert sys.stdout is stream and stream.getvalue() == 'heard\n'


def test_a_terminal_that_is_closed_ends_no_work(monkeypatch):
    controller, screen = os.openpty()
    with os.fdopen(screen, 'w') as stream:
        monkeypatch.setattr(sys, 'stderr', stream)
        with unheard():
            os.close(controller)
            with pytest.raises(OSError) as caught:
                os.write(screen, b'.')
            assert caught.value.errno == errno.EIO
            print('nobody hears this', file=sys.stderr, flush=True)
