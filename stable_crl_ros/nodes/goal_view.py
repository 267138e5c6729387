"""Watch how like the active goal is to what the camera shows, and say where they differ."""

import numpy as np
from rclpy.node import Node
from stable_crl_ros.goal_match import (
    compare_views,
    incomparable,
    is_black,
    other_camera,
    ViewMatch,
)
from stable_crl_ros.goals import Goal
from stable_crl_ros.nodes.common import ERROR, OK, param, steady_clock, value, WARN
from stable_crl_ros.nodes.image_input import ImageInput


class GoalView:
    """
    Compare the active goal with the camera's newest image, once in every `compare_period`.

    What differs is reported when two comparisons in a row find it: a camera that has just been
    opened still seeks its exposure.

    :param node: who reports; the parameters `camera` and `compare_period` are declared on it.
    :param images: what the camera shows.
    """

    def __init__(self, node: Node, images: ImageInput) -> None:
        self._node, self._images = node, images
        param(node, 'camera', '', 'Name of the camera, as in the metadata of goals; one taken by '
              'another is refused; empty: known by its frame_id alone', read_only=True)
        period = param(node, 'compare_period', 1.0, 'Time between comparisons of goal and view '
                       '(s)', low=0.1, high=3600.0, read_only=True)
        self._begin(None)
        node.create_timer(period, self._compare, clock=steady_clock())

    def _begin(self, goal: Goal | None) -> None:
        self._goal = goal
        self._refusal, self._problem = '', ''
        self._match: ViewMatch | None = None
        self._found: dict[str, str] = {}
        self._reported: dict[str, str] = {}
        self._compared_ns = 0

    def watch(self, goal: Goal) -> None:
        """Compare with this goal from now on."""
        self._begin(goal)

    def refusal(self, goal: Goal) -> str:
        """
        Say why a goal cannot be compared with what the camera shows, '' when it can.

        Before the first image, when only the camera's name is known, that alone is compared.
        """
        camera, taken_by = value(self._node, 'camera'), goal.metadata.get('camera')
        image = self._image()
        if image is None:
            why = other_camera(taken_by, camera)
        else:
            why = incomparable(goal.image, image, taken_by, camera, self._images.frame_id)
        return f'goal {goal.name}: {why}' if why else ''

    def _image(self) -> np.ndarray | None:
        """Return the newest image, None before the first and where it cannot be read."""
        try:
            return self._images.image() if self._images.stamp_ns else None
        except ValueError:
            return None

    def _compare(self) -> None:
        if self._goal is None or self._images.stamp_ns == self._compared_ns:
            return
        self._compared_ns = self._images.stamp_ns
        image = self._image()
        if image is None:
            return
        refusal, before = self.refusal(self._goal), self._refusal
        self._refusal = refusal
        if refusal and refusal != before:
            self._node.get_logger().error(refusal)
        if not refusal:
            self._take(compare_views(self._goal.image, image), is_black(image))

    def _take(self, match: ViewMatch, black: bool) -> None:
        found = {'black': 'the view is black; is the lens covered?'} if black \
            else match.differences()
        confirmed = {kind: text for kind, text in found.items() if kind in self._found}
        for kind, text in confirmed.items():
            if kind not in self._reported:
                self._node.get_logger().warning(f'goal {self._goal.name}: {text}')
        if self._reported and not confirmed:
            self._node.get_logger().info(f'goal {self._goal.name}: the view is like it again')
        self._match, self._found, self._reported = match, found, confirmed

    def diagnose(self) -> tuple[bytes, str, dict]:
        """Return what /diagnostics shows."""
        if self._goal is None:
            return OK, 'no goal', {}
        values = {'goal': self._goal.name, 'picture': str(self._goal.path),
                  **(self._match.values() if self._match else {})}
        if self._refusal:
            return ERROR, self._refusal, values
        if self._reported:
            return WARN, '; '.join(self._reported.values()), values
        return OK, self._goal.name if self._match else \
            f'{self._goal.name}, not compared: no image on {self._images.topic} yet', values
