"""A run's folder: which checkpoints stay, and what may not be resumed."""

from learning_samples import metadata, small_agent
import pytest
from stable_crl_ros.crl.run_folder import differences, METRICS, open_run, TrainError

SEED = {'seed': 0}


def save(folder, step, keep_last, unscheduled=()):
    agent = small_agent('gcbc')
    folder.save(step, agent.tensors(), metadata(agent.config, 'gcbc'), agent.state_dict(),
                {'described': SEED})
    folder.prune(keep_last, (), unscheduled)


def test_the_newest_checkpoints_stay_beyond_six_digits_too(tmp_path):
    with open_run(tmp_path / 'run', SEED, resume=False) as folder:
        for step in (999_000, 999_999, 1_000_000, 1_000_500):
            save(folder, step, keep_last=2)
    assert sorted(path.name for path in (tmp_path / 'run').glob('step_*')) == [
        'step_1000000.safetensors', 'step_1000500.safetensors']


@pytest.mark.parametrize('name', ['step_000001_good', 'step_1', 'step_one', 'step_000001 (1)'])
def test_a_copy_by_another_name_is_no_checkpoint_of_the_run_and_stays(tmp_path, name):
    copy = tmp_path / 'run' / f'{name}.safetensors'
    with open_run(tmp_path / 'run', SEED, resume=False) as folder:
        save(folder, 1, keep_last=1)
        copy.write_bytes(folder.checkpoint(1).read_bytes())
        save(folder, 2, keep_last=1)
        assert folder.steps == [2]
    assert copy.exists()


def test_where_a_run_was_stopped_pushes_no_checkpoint_out(tmp_path):
    def kept():
        return [int(path.stem[5:]) for path in sorted((tmp_path / 'run').glob('step_*'))]
    with open_run(tmp_path / 'run', SEED, resume=False) as folder:
        for step in (10, 20, 23):
            save(folder, step, keep_last=2, unscheduled=[23])
        assert kept() == [10, 20, 23]
        save(folder, 30, keep_last=2, unscheduled=[23])
    assert kept() == [20, 30]


def test_the_last_checkpoint_stays_whatever_is_asked(tmp_path):
    with open_run(tmp_path / 'run', SEED, resume=False) as folder:
        save(folder, 1, keep_last=0)
    assert [path.name for path in (tmp_path / 'run').glob('step_*')] == ['step_000001.safetensors']


def test_what_a_kill_left_half_written_is_removed(tmp_path):
    run = tmp_path / 'run'
    with open_run(run, SEED, resume=False) as folder:
        save(folder, 1, keep_last=1)
    (run / '.trainer_state.pt.7.tmp').write_text('half')
    with open_run(run, SEED, resume=True) as folder:
        assert folder.load(SEED)[1] == {'described': SEED}
    assert not list(run.glob('.*.tmp'))


def test_one_folder_takes_one_run_at_a_time(tmp_path):
    with open_run(tmp_path / 'run', SEED, resume=False), \
            pytest.raises(TrainError, match='another process trains in this folder'), \
            open_run(tmp_path / 'run', SEED, resume=False):
        pass
    with open_run(tmp_path / 'run', SEED, resume=False):
        pass  # free again


@pytest.mark.parametrize('resume', [False, True])
def test_a_run_that_has_not_saved_yet_is_in_use_and_not_a_rest(tmp_path, resume):
    with open_run(tmp_path / 'run', SEED, resume=False) as folder:
        rows = folder.path / METRICS
        rows.write_text('step,loss\n1,0.5\n')
        with pytest.raises(TrainError, match='another process trains in this folder'), \
                open_run(tmp_path / 'run', SEED, resume):
            pass
        assert rows.exists()


def test_resuming_what_is_not_there_makes_no_folder(tmp_path):
    with pytest.raises(TrainError, match='nothing to resume'), \
            open_run(tmp_path / 'run', SEED, resume=True):
        pass
    assert not (tmp_path / 'run').exists()


def test_differences_are_named_with_both_values():
    before = {'seed': 0, 'config': {'std': 0.15, 'discount': 0.9}, 'camera': 'a'}
    now = {'seed': 0, 'config': {'std': 0.15, 'discount': 0.95}, 'steps': 3}
    assert differences(before, now) == [
        'camera: a then, None now', 'discount: 0.9 then, 0.95 now', 'steps: None then, 3 now']
