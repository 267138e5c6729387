"""Put images and arm states, which come at rates of their own, together into observations."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_crl_ros.data.schema import Observation

STATE_TOLERANCE_NS = 200_000_000  # an arm state further from the image than this is not its state


@dataclass(frozen=True)
class Sample:
    """
    Something measured.

    :param stamp_ns: when it was measured, system clock.
    :param receive_ns: when it arrived here, system clock.
    :param content: whatever it is; an image may still be encoded.
    """

    stamp_ns: int
    receive_ns: int
    content: Any


class Track:
    """
    The newest samples of one source, in the order of their stamps.

    :param history_ns: samples this much older than the newest are forgotten.
    """

    def __init__(self, history_ns: int) -> None:
        self._history_ns = history_ns
        self._samples: list[Sample] = []

    @property
    def newest(self) -> Sample | None:
        """The sample with the latest stamp."""
        return self._samples[-1] if self._samples else None

    def add(self, sample: Sample) -> None:
        """Keep a sample; it may come out of order."""
        index = bisect_right(self._samples, sample.stamp_ns, key=_stamp)
        self._samples.insert(index, sample)
        oldest = self._samples[-1].stamp_ns - self._history_ns
        del self._samples[:bisect_left(self._samples, oldest, key=_stamp)]

    def before(self, stamp_ns: int) -> Sample | None:
        """Return the newest sample not younger than a stamp."""
        index = bisect_right(self._samples, stamp_ns, key=_stamp)
        return self._samples[index - 1] if index else None

    def after(self, stamp_ns: int) -> Sample | None:
        """Return the oldest sample not older than a stamp."""
        index = bisect_left(self._samples, stamp_ns, key=_stamp)
        return self._samples[index] if index < len(self._samples) else None

    def nearest(self, stamp_ns: int) -> Sample | None:
        """Return the sample closest to a stamp on either side."""
        found = [sample for sample in (self.before(stamp_ns), self.after(stamp_ns)) if sample]
        return min(found, key=lambda sample: abs(sample.stamp_ns - stamp_ns), default=None)


def _stamp(sample: Sample) -> int:
    return sample.stamp_ns


class Alignment:
    """
    Find what was seen when an action was decided on.

    The first camera is the one the policy sees: a step belongs to its image whose capture stamp
    the command carries. Everything else is taken as near to that image as it was measured.

    :param cameras: names, the policy's camera first.
    :param decode: turns what `add_image` was given into uint8 RGB (H, W, 3).
    :param history_s: how long samples are kept, s.
    """

    def __init__(self, cameras: Sequence[str], decode: Callable[[Any], np.ndarray],
                 history_s: float = 2.0) -> None:
        history_ns = int(history_s * 1e9)
        self.cameras = tuple(cameras)
        self.images = {camera: Track(history_ns) for camera in cameras}
        self.states, self.poses = Track(history_ns), Track(history_ns)
        self._decode = decode

    def seen_at(self, stamp_ns: int, max_age_s: float) -> Observation | None:
        """
        Return what a command with this stamp was computed from.

        That is the image of exactly this stamp or, for an operator's command, the newest one not
        younger than it.

        :param max_age_s: an image this much older than the stamp was not what was acted on, s.
        :returns: None when there is no such image from every camera.
        """
        image = self.images[self.cameras[0]].before(stamp_ns)
        if image is None or stamp_ns - image.stamp_ns > max_age_s * 1e9:
            return None
        return self._observation(image, max_age_s)

    def seen_after(self, stamp_ns: int, max_age_s: float) -> Observation | None:
        """Return the first observation captured at a time or later, None when there is none."""
        image = self.images[self.cameras[0]].after(stamp_ns)
        return None if image is None else self._observation(image, max_age_s)

    def _observation(self, main: Sample, max_age_s: float) -> Observation | None:
        frames = {self.cameras[0]: main}
        for camera in self.cameras[1:]:
            other = self.images[camera].nearest(main.stamp_ns)
            if other is None or abs(other.stamp_ns - main.stamp_ns) > max_age_s * 1e9:
                return None
            frames[camera] = other
        observation = Observation(
            images={camera: self._decode(frame.content) for camera, frame in frames.items()},
            capture_stamp=main.stamp_ns, receive_stamp=main.receive_ns)
        if state := _near(self.states, main.stamp_ns):
            observation.joint_positions = state.joint_positions
            observation.joint_velocities = state.joint_velocities
            observation.joint_efforts = state.joint_efforts
            observation.gripper = state.gripper
        pose = _near(self.poses, main.stamp_ns)
        if pose is not None:
            observation.ee_pose = pose
        return observation


def _near(track: Track, stamp_ns: int) -> Any:
    sample = track.nearest(stamp_ns)
    if sample is None or abs(sample.stamp_ns - stamp_ns) > STATE_TOLERANCE_NS:
        return None
    return sample.content
