"""Images that a camera gives when something is wrong with it: frozen, black, of one colour."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from stable_crl_ros.data.findings import Finding, runs, WARNING

BLACK = 16  # of 255: at most this, but for one value in a hundred
BRIGHT_SHARE = 0.01
ONE_COLOUR = 2.0  # standard deviation within every channel, of 255
FROZEN_S, FROZEN_STEPS = 1.0, 3  # the same image for longer than this
MOVED_M, MOVED_RAD, MOVED_GRIPPER = 0.02, 0.1, 0.3  # an arm that an image must show moving


@dataclass(frozen=True)
class Frames:
    """
    What is kept of a camera's images; N images.

    :param same: bool, shape (N - 1,), image i + 1 equals image i.
    :param black: bool, shape (N,).
    :param plain: bool, shape (N,), one colour, black not included.
    """

    same: np.ndarray
    black: np.ndarray
    plain: np.ndarray


def look_at(images: Iterable[np.ndarray]) -> Frames:
    """
    Go through a camera's images once, keeping two of them in memory.

    :param images: uint8 RGB, shape (H, W, 3) each.
    """
    same, black, plain, last = [], [], [], None
    for image in images:
        same.append(last is not None and np.array_equal(image, last))
        black.append(np.count_nonzero(image > BLACK) < BRIGHT_SHARE * image.size)
        # A coarse grid first: a picture that varies there needs no closer look.
        plain.append(not black[-1] and _is_plain(image[::16, ::16]) and _is_plain(image))
        last = image
    return Frames(*(np.array(item, bool) for item in (same[1:], black, plain)))


def _is_plain(image: np.ndarray) -> bool:
    return bool((image.std((0, 1)) < ONE_COLOUR).all())


def check_images(camera: str, frames: Frames, arrays: Mapping[str, np.ndarray],
                 control_rate: float) -> list[Finding]:
    """
    Judge a camera's images.

    :param arrays: every state and step field of the episode.
    :returns: nothing for a good recording.
    """
    found = [Finding(check, f'camera {camera} is {text}', WARNING, steps)
             for check, text, mask in (('black', 'black', frames.black),
                                       ('plain', 'of one colour', frames.plain))
             for steps in runs(mask)]
    longest = max(FROZEN_STEPS, round(FROZEN_S * control_rate))
    for first, last in runs(frames.same, longest + 1):
        if not (frames.black | frames.plain)[first] and _moved(arrays, first, last + 1):
            found.append(Finding('frozen', f'camera {camera} shows the same image while the arm '
                                 'moves', WARNING, (first, last + 1)))
    return found


def _moved(arrays: Mapping[str, np.ndarray], first: int, last: int) -> bool:
    """Tell whether the arm moved visibly between two observations."""
    rows = slice(first, last + 1)
    joints, gripper, place = (arrays['joint_positions'][rows], arrays['gripper'][rows],
                              arrays['ee_pose'][rows, :3])
    if np.isnan(joints).any() and np.isnan(place).any():  # not measured: as it was told to
        place = np.cumsum(arrays['action'][first:last, :3], axis=0)
    return bool((np.linalg.norm(place - place[0], axis=1) > MOVED_M).any()
                or (np.abs(joints - joints[0]) > MOVED_RAD).any()
                or (np.abs(gripper - gripper[0]) > MOVED_GRIPPER).any())
