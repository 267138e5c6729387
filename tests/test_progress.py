"""What a person sees of training: a bar on a terminal, lines elsewhere, or nothing."""

import contextlib
from functools import partial
import gc
import io
import os
import re

import pytest
from stable_crl_ros.crl import progress
from stable_crl_ros.crl.progress import Progress
from stable_crl_ros.crl.run_folder import RunFolder
from stable_crl_ros.crl.run_log import read_metrics, RunLog

METRICS = {'actor/loss': 0.25, 'critic/rank_phi': 3.0, 'validation/squared_error': 0.125}


@pytest.fixture
def terminal():
    """Open a pseudo terminal: the writing end, and a function that ends it and reads all."""
    controller, screen = os.openpty()
    stream = os.fdopen(screen, 'w')

    def read():
        stream.close()
        said = b''
        with contextlib.suppress(OSError):  # how a terminal says that its other end is closed
            while True:
                said += os.read(controller, 65536)
        return said.decode()
    yield stream, read
    stream.close()
    os.close(controller)


def run(shown, first, total, until, metrics=METRICS):
    for _ in range(first, until):
        shown.advance()
        shown.show(metrics)
    return shown


def test_terminal_shows_a_bar_with_the_whole_run_s_steps_and_the_time_left(terminal):
    stream, read = terminal
    run(Progress(100, 60, 'gcbc', stream=stream), 60, 100, 80).close()
    drawn = read()
    assert 'gcbc' in drawn and re.search(r'\d+/100 \[', drawn) and re.search(r'<\d\d:\d\d', drawn)
    assert 'actor/loss=0.25' in drawn and 'rank_phi' not in drawn
    assert ' 60%' in drawn


def test_warning_stands_above_the_bar(terminal):
    stream, read = terminal
    shown = Progress(100, 0, 'gcbc', stream=stream)
    shown.say('the critic has collapsed', warning=True)
    shown.close()
    assert re.search(r'\r *\rwarning: the critic has collapsed\r\n\rgcbc: +0%', read())


def test_file_gets_a_line_now_and_then_and_one_at_the_end(monkeypatch):
    stream = io.StringIO()
    run(Progress(100, 60, 'gcbc', stream=stream), 60, 100, 100)
    first, last = stream.getvalue().splitlines()
    assert first.startswith('gcbc: step 61 of 100, ')
    assert re.search(r'steps/s, \d\d:\d\d left, actor/loss 0.25, validation', first)
    assert last.startswith('gcbc: step 100 of 100, ') and '00:00 left' in last
    monkeypatch.setattr(progress, 'LINE_INTERVAL_S', 0.0)
    often = io.StringIO()
    run(Progress(100, 60, 'gcbc', stream=often), 60, 100, 70)
    assert len(often.getvalue().splitlines()) == 10
    assert '\r' not in often.getvalue()


def test_quiet_shows_nothing_but_warnings(terminal):
    stream, read = terminal
    shown = run(Progress(10, 0, 'gcbc', shown=False, stream=stream), 0, 10, 10)
    shown.say('a note')
    shown.say('a problem', warning=True)
    shown.close()
    assert read() == 'warning: a problem\r\n'


def broken_pipe():
    end, stream = os.pipe()
    os.close(end)
    return os.fdopen(stream, 'w', buffering=1)


def closed_terminal():
    controller, screen = os.openpty()
    stream = os.fdopen(screen, 'w', buffering=1)
    return stream, partial(os.close, controller)


def test_a_broken_pipe_does_not_end_what_is_shown(capfd):
    with broken_pipe() as stream:
        shown = run(Progress(10, 0, 'gcbc', stream=stream), 0, 10, 5)
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # for what is held back
        run(shown, 5, 10, 10).say('a problem', warning=True)
        shown.close()
    assert capfd.readouterr().err == ''


def test_a_terminal_that_is_closed_does_not_end_what_is_shown(capfd):
    stream, hang_up = closed_terminal()
    shown = run(Progress(10, 0, 'gcbc', stream=stream), 0, 10, 5)
    hang_up()
    with pytest.raises(OSError, match='Input/output error'):
        os.write(stream.fileno(), b'.')
    shown.say('a problem', warning=True)
    run(shown, 5, 10, 10).close()
    del shown
    gc.collect()  # a bar draws when it is deleted
    with contextlib.suppress(OSError):
        stream.close()
    assert capfd.readouterr().err == ''


def test_a_closed_stream_does_not_end_what_is_shown():
    stream = io.StringIO()
    stream.close()
    run(Progress(10, 0, 'gcbc', stream=stream), 0, 10, 10).close()


def test_log_takes_a_new_name_in_its_midst(tmp_path):
    log = RunLog(RunFolder(tmp_path), 0)
    log.write(1, {'loss': 0.5})
    log.write(2, {'loss': 0.25, 'rank': 3.0})
    again = RunLog(RunFolder(tmp_path), 2)
    again.write(3, {'loss': 0.125})
    assert read_metrics(tmp_path / 'metrics.csv') == [
        {'step': '1', 'loss': '0.5', 'rank': ''}, {'step': '2', 'loss': '0.25', 'rank': '3.0'},
        {'step': '3', 'loss': '0.125', 'rank': ''}]
    assert not (tmp_path / 'evaluations.csv').exists()


def test_log_forgets_what_came_after_the_step_it_resumes_at(tmp_path):
    log = RunLog(RunFolder(tmp_path), 0)
    for step in (2, 4, 6):
        log.write(step, {'loss': 0.5})
        log.write_evaluation(step, {'success': step / 10})
    again = RunLog(RunFolder(tmp_path), 4)
    assert again.evaluations == {2: {'success': 0.2}, 4: {'success': 0.4}}
    assert [row['step'] for row in read_metrics(tmp_path / 'metrics.csv')] == ['2', '4']
    assert [row['step'] for row in read_metrics(tmp_path / 'evaluations.csv')] == ['2', '4']


def test_row_without_its_end_is_left_out(tmp_path):
    path = tmp_path / 'metrics.csv'
    path.write_text('step,loss\n2,0.5\n4,0.2')  # 0.25 was meant
    assert [row['step'] for row in read_metrics(path)] == ['2']
