"""Episodes the data tests record: every number follows from the episode and the step."""

import numpy as np
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.schema import Action, EpisodeMeta, Mode, Observation

SIZE = (12, 16)  # rows, columns


def picture(episode, step, camera='front', size=SIZE):
    rng = np.random.default_rng([episode, step, sum(camera.encode())])
    return rng.integers(0, 256, (*size, 3), np.uint8)


def observation(episode, step, cameras=('front',), size=SIZE):
    rng = np.random.default_rng([episode, step])
    return Observation(
        {camera: picture(episode, step, camera, size) for camera in cameras},
        joint_positions=rng.normal(size=6), joint_velocities=rng.normal(size=6),
        joint_efforts=rng.normal(size=6), gripper=rng.random(), ee_pose=rng.normal(size=7),
        capture_stamp=10**18 + step, receive_stamp=10**18 + step + 1,
        ages={**{camera: step % 7 for camera in cameras}, 'ee_pose': step})


def action(episode, step):
    rng = np.random.default_rng([episode, step, 7])
    commanded = rng.normal(size=7)
    return Action(
        np.clip(commanded, -0.5, 0.5), commanded, mode=Mode(step % 4),
        command_stamp=10**18 + step + 2, applied_stamp=10**18 + step + 3,
        intervention=step % 3 == 0, flags=step % 1024, progress=rng.normal())


def record(dataset, steps=5, success=True, cameras=('front',), size=SIZE, meta=None, **kwargs):
    """Record a whole episode; its numbers follow from its id."""
    with EpisodeWriter(dataset, meta or EpisodeMeta(task='test'), **kwargs) as writer:
        number = writer.episode_id
        for step in range(steps):
            writer.add_step(observation(number, step, cameras, size), action(number, step))
        writer.finish(observation(number, steps, cameras, size), success)
    return writer.path


def assert_holds(episode, steps, cameras=('front',), number=None):
    """Check every number of an episode's first `steps` transitions, its last state included."""
    number = episode.id if number is None else number
    assert episode.steps == steps
    seen = [observation(number, step, cameras).to_record() for step in range(steps + 1)]
    done = [{**seen[step], **action(number, step).to_record()} for step in range(steps)]
    states = {'joint_positions', 'joint_velocities', 'joint_efforts', 'gripper', 'ee_pose',
              *(f'images/{camera}' for camera in cameras)}
    assert states < set(episode.names)
    for name in episode.names:
        if name.startswith(('image_offsets/', 'image_crcs/', 'goal_image')):
            continue  # how the images are stored, and the goal
        rows = seen if name in states else done
        values = episode[name]
        assert len(values) == len(rows)
        for row, value in zip(rows, values, strict=True):
            np.testing.assert_array_equal(value, row[name], err_msg=f'{episode.path} {name}')
