"""How like a goal photograph is to what the camera shows: view, place, light and colours."""

from dataclasses import dataclass
import math

import cv2
import numpy as np

WIDTH = 160  # columns that both pictures are reduced to
MOST_ROWS = 320  # of a reduced picture; a strip is squashed
PATCH, STRIDE = 16, 8  # pixels of the reduced pictures
REACH = 14  # how far a patch is looked for, pixels of the reduced pictures
TEXTURE = 6.0  # standard deviation (grey levels) of a patch that has something to find again
FOUND = 0.7  # correlation from which on a patch counts as found
FEWEST_PATCHES = 12
SHARPENING = 4  # power of the correlations that vote for a shift: false ones are weak
DARK_OFFSET = 4.0  # grey levels added before ratios are taken: black has none
PROPORTIONS_TOLERANCE = 0.02
BLACK_LEVEL, BLACK_SHARE = 16, 1e-3  # black: a smaller share of the pixels is brighter than this
PLAIN_SPREAD = 2.0  # plain: no patch has a colour of this standard deviation (grey levels)
GREY_SPREAD = 1.0  # mean difference (grey levels) between the colours of a picture without any

# What tests/benchmarks/goal_similarity.py measured is beside the limits in docs/goals.md.
LEAST_BACKGROUND = 0.25  # share of patches found
LARGEST_SHIFT = 0.01  # of the picture's width
LARGEST_BRIGHTNESS = 0.20  # natural logarithm of the ratio
LARGEST_COLOUR = 0.15  # natural logarithm of the ratio


@dataclass(frozen=True)
class ViewMatch:
    """
    What was measured between a goal and a camera image, the image against the goal.

    :param patches: how many patches of the goal have something to find again.
    :param background: share of them found in the image, 0..1; moving arms and objects cost theirs.
    :param shift: right and down, pixels of the image, by which the image is displaced.
    :param brightness: ratio, 1 for equally bright; over what is the same in both.
    :param red: ratio of red to green, likewise.
    :param blue: ratio of blue to green, likewise.
    :param width: columns of the image.
    """

    patches: int
    background: float
    shift: tuple[float, float]
    brightness: float
    red: float
    blue: float
    width: int

    def values(self) -> dict[str, float | int]:
        """Return the numbers by name, rounded, for people and machines."""
        right, down = self.shift
        return {'patches': self.patches, 'background': round(self.background, 3),
                'shift_right_px': round(right, 1), 'shift_down_px': round(down, 1),
                'brightness': round(self.brightness, 3), 'red': round(self.red, 3),
                'blue': round(self.blue, 3)}

    def differences(self) -> dict[str, str]:
        """
        Say in which ways the two differ by more than views of one camera do.

        :returns: one sentence with its number by kind: structure, background, shift, brightness,
            colour; empty when they are alike.
        """
        if self.patches < FEWEST_PATCHES:
            return {'structure': f'the goal shows too little to compare ({self.patches} patches '
                                 f'with structure, {FEWEST_PATCHES} needed)'}
        if self.background < LEAST_BACKGROUND:  # light and place of another view mean nothing
            return {'background': f'{self.background:.0%} of the goal is found in the view '
                                  f'({LEAST_BACKGROUND:.0%} or more where camera and scene are '
                                  'the same): another view, or something before the camera'}
        found = {}
        if math.hypot(*self.shift) > LARGEST_SHIFT * self.width:
            ways = zip(self.shift, ('right', 'down'), ('left', 'up'), strict=True)
            where = ' and '.join(f'{abs(value):.0f} px {forth if value > 0 else back}'
                                 for value, forth, back in ways if abs(value) >= 0.5)
            found['shift'] = (f'the view lies {where} of where the goal shows it (limit '
                              f'{LARGEST_SHIFT * self.width:.1f} px): the camera was moved')
        if abs(math.log(self.brightness)) > LARGEST_BRIGHTNESS:
            found['brightness'] = (f'the view has {self.brightness:.0%} of the brightness of the '
                                   'goal: other light or exposure')
        if max(abs(math.log(self.red)), abs(math.log(self.blue))) > LARGEST_COLOUR:
            found['colour'] = (f'red is {self.red:.0%} and blue {self.blue:.0%} of what they are '
                               'in the goal, against green: other light or white balance')
        return found


def compare_views(goal: np.ndarray, view: np.ndarray) -> ViewMatch:
    """
    Measure how like a camera image is to a goal of the same proportions.

    Patches of the goal are looked for around their place in the image. Their correlations,
    averaged over all patches, vote for one shift; what moves on its own is outvoted.

    :param goal: uint8 RGB, shape (H, W, 3), any size.
    :param view: uint8 RGB, shape (H', W', 3), any size.
    """
    height, width = view.shape[:2]
    size = WIDTH, min(max(round(WIDTH * height / width), 1), MOST_ROWS)
    goal, view = _reduced(goal, size), _reduced(view, size)
    corners, maps, inside = _correlations(_grey(goal), _grey(view))
    shift, found = (0.0, 0.0), np.zeros(len(corners), bool)
    if len(corners):
        row, column, shift = _vote(maps, inside)
        around = maps[:, max(row - 1, 0):row + 2, max(column - 1, 0):column + 2]
        found = around.max(axis=(1, 2)) > FOUND
    logs = _colour_logs(goal, view, corners, found, shift)
    return ViewMatch(
        patches=len(corners), background=float(found.mean()) if len(found) else 0.0,
        shift=(shift[0] * width / size[0], shift[1] * height / size[1]), width=width,
        brightness=math.exp(logs.mean()), red=math.exp(logs[0] - logs[1]),
        blue=math.exp(logs[2] - logs[1]))


def other_proportions(goal: tuple[int, ...], view: tuple[int, ...]) -> str:
    """
    Say that two pictures are of different proportions, '' when they are not.

    Both are squashed to the network's size, so that they would never match.

    :param goal: shape of the goal, rows first.
    :param view: shape of the camera image.
    """
    (goal_height, goal_width), (height, width) = goal[:2], view[:2]
    if abs(width * goal_height - height * goal_width) <= \
            PROPORTIONS_TOLERANCE * width * goal_height:
        return ''
    return (f'the goal is {goal_width}x{goal_height} but the camera gives {width}x{height}; '
            'take the goal with this camera')


def other_camera(taken_by: object, camera: str, frame_id: str | None = None) -> str:
    """
    Say that a goal was taken by another camera, '' when it was not, or nobody knows.

    :param taken_by: what the goal's metadata call its camera: a name or a frame; None or ''.
    :param camera: name of the camera that is used, '' where nobody said.
    :param frame_id: its frame; None before its first image.
    """
    names = [name for name in (camera, frame_id) if name]
    unknown = frame_id is None and str(taken_by).endswith('_frame')
    if not taken_by or not names or taken_by in names or unknown:
        return ''
    return (f'the goal was taken by camera {str(taken_by)!r}, and this one is {names[0]!r}; take '
            'it with this camera, or mend "camera" in its .json if they are the same')


def other_colours(goal: np.ndarray, view: np.ndarray) -> str:
    """Say that a grey goal faces a camera of colours, or the reverse; '' when both are alike."""
    grey, camera_grey = is_grey(goal), is_grey(view)
    if grey == camera_grey:
        return ''
    return (f'the goal is {"grey" if grey else "coloured"} but the camera '
            f'{"grey" if camera_grey else "gives colours"}; take the goal with this camera')


def incomparable(goal: np.ndarray, view: np.ndarray, taken_by: object = None, camera: str = '',
                 frame_id: str = '') -> str:
    """
    Say why a goal cannot be compared with a camera image, '' when it can.

    :param goal: uint8 RGB, shape (H, W, 3).
    :param view: uint8 RGB, shape (H', W', 3).
    :param taken_by: as for `other_camera`; `camera` and `frame_id` as well.
    """
    return (other_camera(taken_by, camera, frame_id) or other_proportions(goal.shape, view.shape)
            or ('' if is_black(view) else other_colours(goal, view)))


def is_black(image: np.ndarray) -> bool:
    """Say whether a picture shows nothing, such as that of a covered lens."""
    return float((image.max(axis=2) > BLACK_LEVEL).mean()) < BLACK_SHARE


def is_plain(image: np.ndarray) -> bool:
    """Say whether a picture has no structure anywhere, such as that of a wall or an open sky."""
    height, width = image.shape[:2]
    size = WIDTH, min(max(round(WIDTH * height / width), PATCH), MOST_ROWS)
    small = _reduced(image, size).astype(np.float32)
    means, squares = (cv2.blur(values, (PATCH, PATCH)) for values in (small, small ** 2))
    return float((squares - means ** 2).max()) < PLAIN_SPREAD ** 2


def is_grey(image: np.ndarray) -> bool:
    """Say whether a picture has no colours."""
    small = _reduced(image, (64, 64)).astype(np.float32)
    return float(np.ptp(small, axis=2).mean()) < GREY_SPREAD


def light(image: np.ndarray) -> dict[str, float | list[float]]:
    """
    Measure how bright and of which colours a picture is, for its metadata.

    :returns: brightness (mean luma, 0..255), clipped (share of pixels at 255 in every colour),
        and colour (mean red, green, blue).
    """
    return {'brightness': round(float(_grey(image).mean()), 1),
            'clipped': round(float((image.min(axis=2) == 255).mean()), 4),
            'colour': [round(float(mean), 1) for mean in image.mean(axis=(0, 1))]}


def _reduced(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    smaller = image.shape[1] >= size[0] and image.shape[0] >= size[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)


def _grid(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return rows and columns of the upper left corners of all patches."""
    return [(row, column) for row in range(0, shape[0] - PATCH + 1, STRIDE)
            for column in range(0, shape[1] - PATCH + 1, STRIDE)]


def _patch(image: np.ndarray, row: int, column: int) -> np.ndarray:
    return image[row:row + PATCH, column:column + PATCH]


def _correlations(goal: np.ndarray, view: np.ndarray) -> tuple[list, np.ndarray, np.ndarray]:
    """
    Look for every patch of the goal that has structure.

    :returns: their n corners; correlations (n, shifts down, shifts right), where the middle is no
        shift; and whether a patch shifted so still lies in the picture, of the same shape.
    """
    shifts = np.arange(-REACH, REACH + 1)
    wide = cv2.copyMakeBorder(view, *[REACH] * 4, cv2.BORDER_REPLICATE)
    corners = [corner for corner in _grid(goal.shape) if _patch(goal, *corner).std() >= TEXTURE]
    maps = np.zeros((len(corners), len(shifts), len(shifts)), np.float32)
    inside = np.zeros(maps.shape, bool)
    for index, (row, column) in enumerate(corners):
        region = wide[row:row + PATCH + 2 * REACH, column:column + PATCH + 2 * REACH]
        maps[index] = cv2.matchTemplate(region, _patch(goal, row, column), cv2.TM_CCOEFF_NORMED)
        rows, columns = row + shifts, column + shifts
        inside[index] = ((rows >= 0) & (rows <= goal.shape[0] - PATCH))[:, None] \
            & ((columns >= 0) & (columns <= goal.shape[1] - PATCH))
    # Without any contrast OpenCV gives 1 or what is not finite: nothing was found there.
    maps[~np.isfinite(maps) | (maps > 1.0 + 1e-3)] = 0.0
    return corners, maps, inside


def _vote(maps: np.ndarray, inside: np.ndarray) -> tuple[int, int, tuple[float, float]]:
    """Return row and column of the best shift, and the shift right and down with fractions."""
    votes = (np.where(inside, maps.clip(0.0, 1.0), 0.0) ** SHARPENING).sum(axis=0)
    votes /= np.maximum(inside.sum(axis=0), 1)
    row, column = (int(index) for index in np.unravel_index(votes.argmax(), votes.shape))
    down = row + _vertex(votes[:, column], row) - REACH
    right = column + _vertex(votes[row], column) - REACH
    return row, column, (right, down)


def _vertex(votes: np.ndarray, peak: int) -> float:
    """Return where the parabola through a peak and its neighbours is highest, beside the peak."""
    if not 0 < peak < len(votes) - 1:
        return 0.0
    before, at, after = votes[peak - 1:peak + 2]
    bend = before - 2.0 * at + after
    return float(0.5 * (before - after) / bend) if bend else 0.0


def _colour_logs(goal: np.ndarray, view: np.ndarray, corners: list, found: np.ndarray,
                 shift: tuple[float, float]) -> np.ndarray:
    """
    Compare the colours of what is the same in both: patches found, and those flat in both.

    :returns: (3,) median logarithm of the ratio of red, green and blue, the view's to the goal's.
    """
    right, down = (round(value) for value in shift)
    textured, logs = dict(zip(corners, found, strict=True)), []
    for row, column in _grid(goal.shape):
        there = row + down, column + right
        inside = (0 <= there[0] <= goal.shape[0] - PATCH
                  and 0 <= there[1] <= goal.shape[1] - PATCH)
        if inside and textured.get((row, column), True):
            mine, theirs = (_patch(image, *corner).mean(axis=(0, 1)) + DARK_OFFSET
                            for image, corner in ((goal, (row, column)), (view, there)))
            logs.append(np.log(theirs / mine))
    if not logs:
        return np.log((view.mean(axis=(0, 1)) + DARK_OFFSET)
                      / (goal.mean(axis=(0, 1)) + DARK_OFFSET))
    return np.median(logs, axis=0)
