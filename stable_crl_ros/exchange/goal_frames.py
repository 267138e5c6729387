"""Goal photographs out of recordings."""

import numpy as np
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.exchange.recording import ExchangeError
from stable_crl_ros.goals import Goal, GoalStore


def save_goal(episode: Episode, frame: int, camera: str | None, name: str,
              store: GoalStore) -> Goal:
    """
    Save one frame of an episode as a goal.

    :param frame: 0 is the first; negative ones count from the end, -1 is the last.
    :param camera: may be left out when there is one only.
    :param name: of the goal; '' for the next free one.
    :raises ExchangeError: when there is no such frame, or no camera is named.
    :raises GoalError: when the goal exists or cannot be written.
    """
    count = episode.steps + 1
    row = frame + count if frame < 0 else frame
    if not 0 <= row < count:
        raise ExchangeError(f'episode {episode.id} has the frames 0 to {episode.steps}, not '
                            f'{frame}')
    if camera is None and len(episode.cameras) > 1 or camera not in (None, *episode.cameras):
        raise ExchangeError(f'camera {camera!r}: choose one of {", ".join(episode.cameras)}')
    camera = camera or episode.cameras[0]
    pose, image = episode['ee_pose'][row], episode.image(camera, row)
    stamps = [*episode['capture_stamp'].tolist(), episode.attrs.get('final_capture_stamp', 0)]
    return store.save(name, image, {
        'camera': camera, 'image_spec': {'height': image.shape[0], 'width': image.shape[1]},
        'stamp_ns': int(stamps[row]),
        'ee_pose': pose.tolist() if np.isfinite(pose).all() else None,
        'episode': episode.path.name, 'frame': row})
