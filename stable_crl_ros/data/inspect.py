"""Look at recorded episodes: tables, verification, picture strips and videos."""

from pathlib import Path

import cv2
import numpy as np
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import Episode, EpisodeError
from stable_crl_ros.data.schema import IMAGES, Mode, STATE_FIELDS, STEP_FIELDS
from stable_crl_ros.images import write_image

STAMPS = ('capture_stamp', 'receive_stamp', 'command_stamp', 'applied_stamp')
WHITE = 255
GAP = 8  # pixels between the observations and the goal


def list_episodes(path: str | Path) -> str:
    """
    Return a table of a dataset's episodes, then what is damaged or not sealed.

    :raises DatasetError: when it is no dataset.
    """
    dataset = Dataset(path)
    broken = dataset.broken
    sealed = [dataset[number] for number in dataset.ids
              if dataset.episode_path(number).name not in broken]
    lines = [f'{"episode":>7} {"steps":>6} {"success":>8} {"task":24} {"source":14} cameras']
    for episode in sealed:
        attrs = episode.attrs
        cut = ' (interrupted)' if attrs['interrupted'] else ''
        lines.append(f'{episode.id:>7} {episode.steps:>6} {_verdict(attrs["success"]):>8} '
                     f'{attrs["task"][:24]:24} {attrs["source"][:14]:14} '
                     f'{_cameras(attrs)}{cut}')
    lines.append(f'{len(sealed)} episodes, {sum(e.steps for e in sealed)} steps')
    lines += [f'damaged: {reason}' for reason in broken.values()]
    lines += [f'not sealed: {item.message}' for item in dataset.unsealed()]
    return '\n'.join(lines)


def describe_episode(path: str | Path) -> str:
    """
    Return what is known of one episode, one line per fact.

    :raises EpisodeError: when it cannot be read.
    """
    episode = Episode(path)
    skipped = {'checksums', 'cameras', 'unfinished_step'}
    lines = [f'{name}: {value}' for name, value in episode.attrs.items()
             if name not in skipped and value not in ('', None)]
    lines.append(f'cameras: {_cameras(episode.attrs)}')
    modes = np.bincount(episode['mode'], minlength=len(Mode))
    lines.append('modes: ' + ', '.join(f'{count} {Mode(mode).name.lower()}'
                                       for mode, count in enumerate(modes) if count))
    lines.append(f'interventions: {int(episode["intervention"].sum())}')
    lines.append(f'clipped or refused: {int((episode["flags"] != 0).sum())}')
    return '\n'.join(lines)


def verify_episode(path: str | Path) -> list[str]:
    """
    Read a whole episode and check it against its checksums and the format.

    :returns: what is wrong, one line each; empty when all is well.
    """
    try:
        episode = Episode(path)
    except EpisodeError as error:
        return [str(error)]
    expected = _expected(episode)
    problems = [f'{path}: lacks {name}' for name in sorted(set(expected) - set(episode.names))]
    arrays = {}
    for name in episode.names:
        try:
            arrays[name] = episode[name]
        except EpisodeError as error:
            problems.append(str(error))
    for name in sorted(set(arrays) & set(expected)):
        found = (arrays[name].shape, arrays[name].dtype.name)
        if found != expected[name]:
            problems.append(f'{path}: {name} is {found}, must be {expected[name]}')
    return problems or [f'{path}: {text}' for text in _implausible(arrays)]


def verify_dataset(path: str | Path) -> list[str]:
    """
    Verify every episode of a dataset, and name what is not sealed.

    :returns: what is wrong, one line each; empty when all is well.
    :raises DatasetError: when it is no dataset.
    """
    dataset = Dataset(path)
    problems = [problem for number in dataset.ids
                for problem in verify_episode(dataset.episode_path(number))]
    return problems + [item.message for item in dataset.unsealed()
                       if item.state not in ('recording', 'reserved')]


def write_strip(episode: Episode, path: str | Path, camera: str | None = None, count: int = 8,
                height: int = 192) -> None:
    """
    Write a picture: observations from first to last, the goal beside them.

    :param path: a .png or .jpg.
    :param camera: may be left out when there is one only.
    :param count: observations shown, evenly spread.
    :param height: of the picture, pixels.
    """
    images = episode.images(camera)
    chosen = np.unique(np.linspace(0, len(images) - 1, count).round().astype(int))
    tiles = [_label(_scale(images[row], height), f'{row}') for row in chosen]
    goal = episode.goal_image
    if goal is not None:
        gap = np.full((height, GAP, 3), WHITE, np.uint8)
        tiles += [gap, _label(_scale(goal, height), 'goal')]
    write_image(path, np.hstack(tiles))


def write_video(episode: Episode, path: str | Path, camera: str | None = None,
                height: int = 240) -> None:
    """
    Write an mp4 at the episode's control rate: observation beside goal.

    :param path: the .mp4 file.
    :param camera: may be left out when there is one only.
    :param height: of the video, pixels.
    :raises EpisodeError: when OpenCV cannot write it.
    """
    images, goal = episode.images(camera), episode.goal_image
    beside = [] if goal is None else [_label(_scale(goal, height), 'goal')]
    first = np.hstack([_scale(images[0], height), *beside])
    size = (first.shape[1] // 2 * 2, height // 2 * 2)  # the codec wants even numbers
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'),
                             episode.attrs['control_rate'], size)
    if not writer.isOpened():
        raise EpisodeError(f'{path}: OpenCV cannot write this video; give a writable .mp4 path')
    try:
        for row, image in enumerate(images):
            frame = np.hstack([_label(_scale(image, height), f'{row}'), *beside])
            writer.write(cv2.cvtColor(frame[:size[1], :size[0]], cv2.COLOR_RGB2BGR))
    finally:
        writer.release()


def _verdict(success: bool | None) -> str:
    return {True: 'yes', False: 'no', None: '-'}[success]


def _cameras(attributes: dict) -> str:
    return ', '.join(f'{name} {width}x{height}'
                     for name, (height, width) in sorted(attributes['cameras'].items()))


def _expected(episode: Episode) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return name -> (shape, dtype) of the arrays an episode must have."""
    steps = episode.steps
    expected = {field.name: ((steps + 1, *field.shape), field.dtype) for field in STATE_FIELDS}
    expected |= {field.name: ((steps, *field.shape), field.dtype) for field in STEP_FIELDS}
    for camera, size in episode.attrs['cameras'].items():
        expected[f'{IMAGES}/{camera}'] = ((steps + 1, *size, 3), 'uint8')
    return expected


def _implausible(arrays: dict[str, np.ndarray]) -> list[str]:
    """Return what fits the format but cannot have happened."""
    found = []
    if not np.isfinite(arrays['action']).all():
        found.append('an applied action is not finite')
    if arrays['mode'].size and arrays['mode'].max() > max(Mode):
        found.append(f'mode {arrays["mode"].max()} is unknown')
    for name in STAMPS:
        stamps = arrays[name][arrays[name] != 0]
        backwards = int((np.diff(stamps) < 0).sum())
        if backwards:
            found.append(f'{name} goes backwards {backwards} times')
    return found


def _scale(image: np.ndarray, height: int) -> np.ndarray:
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    smaller = height < image.shape[0]
    return cv2.resize(image, (width, height),
                      interpolation=cv2.INTER_AREA if smaller else cv2.INTER_NEAREST)


def _label(image: np.ndarray, text: str) -> np.ndarray:
    size = image.shape[0] / 400
    place = (round(12 * size), round(36 * size))
    image = np.ascontiguousarray(image)
    for colour, width in ((0, 3), (WHITE, 1)):  # readable on dark and on bright
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (colour,) * 3, width,
                    cv2.LINE_AA)
    return image
