"""Verification: silent on good recordings, and precise about what is broken in a bad one."""

import json
import shutil

from data_samples import action, observation
from episode_samples import in_memory, record_good, record_rows, rows
import numpy as np
import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.findings import ERROR, runs, WARNING
from stable_crl_ros.data.labels import discard, relabel
from stable_crl_ros.data.listing import marks
from stable_crl_ros.data.schema import EpisodeMeta, Mode
from stable_crl_ros.data.verify import errors, verify_dataset, verify_episode


@pytest.fixture
def dataset():
    with in_memory() as folder:
        yield Dataset(folder / 'dataset', create=True)


def found(findings):
    """Return what each finding is about, without its words."""
    return [(finding.check, finding.severity, finding.steps) for finding in findings]


def test_a_good_recording_is_sound(dataset):
    goal = EpisodeMeta(task='open', goal_image=np.full((8, 8, 3), 9, np.uint8))
    record_good(dataset, cameras=('front', 'wrist'), meta=goal)
    record_good(dataset, steps=1, cameras=('front', 'wrist'), seed=1)
    assert verify_dataset(dataset.path) == []


def test_an_episode_that_recorded_no_states_and_no_stamps_is_sound(dataset):
    observations, actions = rows()
    for seen in observations:
        seen.joint_positions = seen.joint_velocities = seen.joint_efforts = np.full(6, np.nan)
        seen.ee_pose, seen.gripper = np.full(7, np.nan), np.nan
        seen.capture_stamp = seen.receive_stamp = 0
    for done in actions:
        done.command_stamp = done.applied_stamp = 0
    record_rows(dataset, observations, actions)
    assert verify_dataset(dataset.path) == []


def test_an_operator_who_lets_go_for_a_second_is_no_finding(dataset):
    observations, actions = rows()
    pause(observations, actions)
    record_rows(dataset, observations, actions)
    assert verify_dataset(dataset.path) == []
    assert marks(dataset[0].attrs) == ['1 pause of the operator, 1.2 s']


def test_an_arm_at_rest_before_a_still_camera_is_sound(dataset):
    observations, actions = rows()
    for step, (seen, done) in enumerate(zip(observations, actions, strict=False)):
        if 10 <= step < 25:
            seen.images, done.action = observations[10].images, np.zeros(7)
            seen.joint_positions = observations[10].joint_positions
            seen.ee_pose, seen.gripper = observations[10].ee_pose, observations[10].gripper
    seen = observations[25:]
    for later in seen:  # it goes on from where it rested
        later.joint_positions, later.ee_pose = seen[0].joint_positions, observations[10].ee_pose
    for done in actions[25:]:
        done.action = np.zeros(7)
    record_rows(dataset, observations, actions)
    assert verify_dataset(dataset.path) == []


def every(attribute, function):
    """Return a change of one attribute, in every observation or action that has it."""
    def change(observations, actions):
        for items in (observations, actions):
            for step, item in enumerate(items):
                if hasattr(item, attribute):
                    setattr(item, attribute, function(step, getattr(item, attribute)))
    return change


def during(steps, function):
    return lambda step, value: function(value) if step in steps else value


def shift(stamp, step, nanoseconds):
    return every(stamp, during({step}, lambda value: value + nanoseconds))


def stretch(observations, actions):
    """Record at 4 Hz instead of 5."""
    for items, names in ((observations, ('capture_stamp', 'receive_stamp')),
                         (actions, ('command_stamp', 'applied_stamp'))):
        for step, item in enumerate(items):
            for name in names:
                setattr(item, name, getattr(item, name) + step * 50_000_000)


def pause(observations, actions):
    """Let step 20 be a second late, and all that follow."""
    for items, names in ((observations, ('capture_stamp', 'receive_stamp')),
                         (actions, ('command_stamp', 'applied_stamp'))):
        for item in items[20:]:
            for name in names:
                setattr(item, name, getattr(item, name) + 10**9)


def hold_back(observations, actions):
    """Let the policy, which has nobody to let go, be late like that."""
    for done in actions:
        done.mode = Mode.POLICY
    pause(observations, actions)


def hold_image(observations, actions):
    for seen in observations[20:23]:
        seen.capture_stamp = observations[19].capture_stamp


def freeze(observations, actions):
    for seen in observations[11:21]:
        seen.images = observations[10].images


def freeze_without_measured_states(observations, actions):
    freeze(observations, actions)
    for seen in observations:
        seen.joint_positions, seen.ee_pose = np.full(6, np.nan), np.full(7, np.nan)


def stop_measuring(observations, actions):
    for seen in observations[11:]:
        seen.ee_pose, seen.joint_positions = (observations[10].ee_pose,
                                              observations[10].joint_positions)
    for done in actions:
        done.action = np.array([0.01, 0, 0, 0, 0, 0, 0.5]) + done.action * 1e-3


@pytest.mark.parametrize(('change', 'expected'), [
    (shift('receive_stamp', 20, -10**9), ('stamps', ERROR, (20, 20))),
    (shift('applied_stamp', 7, -10**9), ('stamps', ERROR, (7, 7))),
    (shift('capture_stamp', 20, 100_000_000), ('stamps', WARNING, (20, 20))),
    (hold_image, ('stale', WARNING, (21, 22))),
    (stretch, ('rate', WARNING, None)),
    (hold_back, ('pause', WARNING, (19, 19))),
    (freeze, ('frozen', WARNING, (10, 20))),
    (freeze_without_measured_states, ('frozen', WARNING, (10, 20))),
    (stop_measuring, ('stuck', WARNING, (10, 39))),
    (every('images', during({3, 4}, lambda images: {'front': images['front'] // 20})),
     ('black', WARNING, (3, 4))),
    (every('images', during({40}, lambda images: {'front': images['front'] * 0 + 130})),
     ('plain', WARNING, (40, 40))),
    (every('action', during(range(30), lambda value: np.array([0.05, *value[1:]]))),
     ('saturated', WARNING, None)),
    (every('flags', during(range(30), lambda value: 128)), ('refused', WARNING, None)),
    (every('action', lambda step, value: np.array([0, 0, 0, 0, 0, 0, value[6]])),
     ('constant', WARNING, None)),
    (every('action', during(range(5, 35), lambda value: np.array([0.01, 0, 0, 0, 0, 0, 1]))),
     ('constant', WARNING, (5, 34))),
    (every('joint_positions', during({8}, lambda value: value + [1.5, 0, 0, 0, 0, 0])),
     ('jump', WARNING, (7, 7))),
    (every('ee_pose', during({8}, lambda value: np.append([0, 0, 0], value[3:]))),
     ('jump', WARNING, (7, 7))),
    (every('ee_pose', during({8, 9}, lambda value: np.full(7, np.nan))),
     ('invalid', WARNING, (8, 9))),
    (every('joint_positions', during({5}, lambda value: np.array([*value[:5], np.inf]))),
     ('invalid', WARNING, (5, 5))),
    (every('joint_positions', during(range(41), lambda value: np.array(
        [value[0], 2.3, *value[2:]]))), ('range', WARNING, (0, 40))),
    (every('gripper', during({2}, lambda value: 37.0)), ('range', WARNING, (2, 2))),
    (every('ee_pose', during({2}, lambda value: value * [1, 1, 1, 2, 2, 2, 2])),
     ('range', WARNING, (2, 2))),
])
def test_names_what_is_implausible_and_where(dataset, change, expected):
    observations, actions = rows()
    change(observations, actions)
    path = record_rows(dataset, observations, actions)
    findings = verify_episode(path)
    assert expected in found(findings)
    assert {finding.episode for finding in findings} == {'episode_000000.zarr'}
    other = set(found(findings)) - {expected}
    assert {check for check, _, _ in other} <= {expected[0]}, other  # and nothing else
    assert verify_episode(path, integrity_only=True) == []


def test_an_episode_at_twice_its_rate_is_named(dataset):
    record_good(dataset, meta=EpisodeMeta(control_rate=2.5))
    assert found(verify_dataset(dataset.path)) == [('rate', WARNING, None)]


def test_lost_steps_are_named(dataset):
    record_good(dataset, dropped=4)
    assert found(verify_dataset(dataset.path)) == [('dropped', WARNING, None)]


def test_limits_of_the_policy_count_where_it_has_its_own(dataset):
    observations, actions = rows()
    every('action', lambda step, value: np.array([0.02, *value[1:]]))(observations, actions)
    scale = {'low': [-0.02] * 3 + [-1] * 3 + [0], 'high': [0.02] * 3 + [1] * 3 + [1]}
    path = record_rows(dataset, observations, actions, meta=EpisodeMeta(action_scale=scale))
    assert ('saturated', WARNING, None) in found(verify_episode(path))


def test_names_every_damaged_array(dataset):
    path = record_good(dataset)
    for name in ('action', 'mode'):
        file = next(item for item in (path / name).rglob('*')
                    if item.is_file() and item.name != 'zarr.json')
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    shutil.rmtree(path / 'progress' / 'c')
    findings = verify_episode(path)
    assert found(findings) == [('checksum', ERROR, None)] * 3
    for finding, name in zip(findings, ('action', 'mode', 'progress'), strict=True):
        assert name in finding.what
        assert 'restore it from a copy' in finding.what


def test_names_the_one_image_that_is_damaged(dataset):
    path = record_good(dataset, cameras=('front', 'wrist'))
    start = int(dataset[0]['image_offsets/wrist'][17])
    file = next(item for item in (path / 'images/wrist').rglob('*')
                if item.is_file() and item.name != 'zarr.json')
    data = bytearray(file.read_bytes())
    data[start + 40] ^= 1
    file.write_bytes(data)
    finding, = verify_episode(path)
    assert finding.steps == (17, 17)
    assert finding.severity == ERROR
    assert 'camera wrist' in finding.what


def change_attributes(path, **changes):
    values = json.loads((path / 'zarr.json').read_bytes())
    values['attributes'].update(changes)
    (path / 'zarr.json').write_text(json.dumps(values))


def test_names_arrays_that_do_not_fit_the_format(dataset):
    path = record_good(dataset, steps=5)
    change_attributes(path, steps=4)
    found_ = [finding.what for finding in verify_episode(path)]
    assert any("action is ((5, 7), 'float32'), must be ((4, 7)" in what for what in found_)


def test_names_arrays_that_are_not_there(dataset):
    path = record_good(dataset, steps=5)
    checksums = json.loads((path / 'zarr.json').read_bytes())['attributes']['checksums']
    del checksums['mode'], checksums['images/front']
    change_attributes(path, checksums=checksums)
    found_ = [finding.what for finding in verify_episode(path) if finding.check == 'missing']
    assert found_ == ['lacks images/front', 'lacks mode']


def test_every_changed_byte_of_what_an_episode_says_of_itself_is_found(dataset):
    path = record_good(dataset, steps=5)
    intact = (path / 'zarr.json').read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(np.flatnonzero(np.frombuffer(intact, np.uint8) > 32), 60, False):
        changed = bytearray(intact)
        changed[place] ^= 1 << int(rng.integers(7))
        (path / 'zarr.json').write_bytes(changed)
        assert errors(verify_episode(path, integrity_only=True)), changed[place - 20:place + 20]
    (path / 'zarr.json').write_bytes(intact)
    assert verify_episode(path) == []


def test_labelling_anew_accepts_what_was_edited_by_hand(dataset):
    path = record_good(dataset, steps=5)
    change_attributes(path, task='open the drawer')
    finding, = verify_episode(path)
    assert finding.check == 'attributes' and 'edited by hand' in finding.what
    relabel(dataset, 0, 'someone', success=True)
    assert verify_episode(path) == []


def test_a_directory_that_holds_no_episode_is_an_error(dataset):
    finding, = verify_episode(dataset.path / 'episode_000009.zarr')
    assert finding.severity == ERROR
    assert finding.what.endswith('(no zarr.json)')


def test_names_what_a_crash_cut_off(dataset):
    record_good(dataset)
    writer = EpisodeWriter(dataset)
    writer.add_step(observation(1, 0), action(1, 0))
    writer._journal.close()
    finding, = verify_dataset(dataset.path)
    assert (finding.check, finding.severity) == ('unsealed', ERROR)
    assert finding.episode == 'episode_000001.journal'


def without_stamps(observations, actions):
    for done in actions:
        done.command_stamp = done.applied_stamp = 0
    for seen in observations:
        seen.capture_stamp = seen.receive_stamp = 0
    return observations, actions


def test_names_episodes_that_do_not_fit_the_others(dataset):
    for seed in (0, 1, 0):
        record_good(dataset, steps=5, seed=seed)
    record_good(dataset, steps=5, seed=4, cameras=('wrist',))
    record_rows(dataset, *without_stamps(*rows(5, seed=5)), meta=EpisodeMeta(control_rate=10.0))
    assert [str(finding) for finding in verify_dataset(dataset.path)] == [
        'episode_000002.zarr: warning: holds the same as episode_000000.zarr',
        'dataset: warning: the control rates differ, training takes one (5 Hz: episodes 0-3; '
        '10 Hz: episodes 4)',
        'dataset: warning: no camera is in all episodes, training takes one']


def test_discarded_episodes_are_not_verified(dataset):
    record_good(dataset, steps=5)
    record_good(dataset, steps=5, dropped=4, seed=1)
    discard(dataset, 1, 'ada')
    assert verify_dataset(dataset.path) == []


def test_counts_the_episodes_it_has_read(dataset):
    for seed in range(3):
        record_good(dataset, steps=3, seed=seed)
    told = []
    verify_dataset(dataset.path, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_finding_says_where_in_one_line_and_in_plain_values(dataset):
    path = record_good(dataset, dropped=4)
    finding, = verify_episode(path)
    assert str(finding) == 'episode_000000.zarr: warning: 4 steps were dropped'
    assert json.loads(json.dumps(finding.to_dict()))['steps'] is None
    assert errors([finding]) == []


def test_stretches_of_true():
    mask = np.array([True, True, False, True, False, True, True, True])
    assert runs(mask) == [(0, 1), (3, 3), (5, 7)]
    assert runs(mask, 2) == [(0, 1), (5, 7)]
    assert runs(np.zeros(0, bool)) == []
