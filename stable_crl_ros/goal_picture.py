"""What the picture of a goal must be: large enough to show something, small enough to be sent."""

import cv2
import numpy as np
from stable_crl_ros.goal_match import is_black, is_plain

LEAST_SIDE = 24  # pixels; half of what the shipped policy sees
LONGEST_SIDE = 1920  # pixels; a larger one would hold control up on its way to the policy


def why_empty(image: np.ndarray) -> str:
    """
    Say why a picture cannot show what is to be brought about, '' when it can.

    :param image: uint8 RGB, shape (H, W, 3).
    """
    height, width = image.shape[:2]
    if min(height, width) < LEAST_SIDE:
        return f'has {width} x {height} pixels, and {LEAST_SIDE} x {LEAST_SIDE} are needed'
    if is_black(image):
        return 'is black'
    return 'is of one plain colour' if is_plain(image) else ''


def shrunk(image: np.ndarray) -> np.ndarray:
    """Return a picture of `LONGEST_SIDE` at most, its proportions kept; itself where it fits."""
    height, width = image.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale >= 1.0:
        return image
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def size_of(image: np.ndarray) -> dict[str, int]:
    """Return rows and columns, pixels, as metadata hold them."""
    return {'height': image.shape[0], 'width': image.shape[1]}
