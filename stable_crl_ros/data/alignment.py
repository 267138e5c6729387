"""Put images and arm states, which come at rates of their own, together into observations."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stable_crl_ros.data.schema import Observation, STATE_STREAMS

STATE_TOLERANCE_NS = 200_000_000  # an arm state older than this is not that of the tick
STATES, POSES = STATE_STREAMS
_FEWEST = 8  # samples that are kept whatever their age: after a standstill the next is much newer


@dataclass(frozen=True)
class Sample:
    """
    Something measured.

    :param stamp_ns: when it was measured, system clock.
    :param receive_ns: when it arrived here, system clock.
    :param content: whatever it is; an image may still be encoded.
    :param nbytes: that the content holds; 0 where nobody asks.
    """

    stamp_ns: int
    receive_ns: int
    content: Any
    nbytes: int = 0


class Track:
    """
    The newest samples of one source, in the order of their stamps.

    :param history_ns: samples this much older than the newest are forgotten, all but the last few.
    """

    def __init__(self, history_ns: int) -> None:
        self._history_ns = history_ns
        self._samples: list[Sample] = []

    @property
    def newest(self) -> Sample | None:
        """The sample with the latest stamp."""
        return self._samples[-1] if self._samples else None

    def add(self, sample: Sample) -> None:
        """
        Keep a sample; it may come out of order.

        One older than all that is remembered means that the clock was stepped back, or that the
        newest stamp was wrong: the track begins anew with it.
        """
        newest = self.newest
        if newest is not None and sample.stamp_ns < newest.stamp_ns - self._history_ns:
            self._samples.clear()
        index = bisect_right(self._samples, sample.stamp_ns, key=_stamp)
        self._samples.insert(index, sample)
        oldest = self._samples[-1].stamp_ns - self._history_ns
        old = bisect_left(self._samples, oldest, key=_stamp)
        del self._samples[:max(0, min(old, len(self._samples) - _FEWEST))]

    def clear(self) -> None:
        """Forget everything."""
        self._samples.clear()

    def before(self, stamp_ns: int) -> Sample | None:
        """Return the newest sample not younger than a stamp."""
        index = bisect_right(self._samples, stamp_ns, key=_stamp)
        return self._samples[index - 1] if index else None

    def after(self, stamp_ns: int) -> Sample | None:
        """Return the oldest sample not older than a stamp."""
        index = bisect_left(self._samples, stamp_ns, key=_stamp)
        return self._samples[index] if index < len(self._samples) else None


def _stamp(sample: Sample) -> int:
    return sample.stamp_ns


class UnseenError(ValueError):
    """
    A step without an image that belongs to it.

    :param stream: the camera that has none.
    """

    def __init__(self, stream: str, message: str) -> None:
        super().__init__(message)
        self.stream = stream


class Alignment:
    """
    Find what was seen when an action was decided on.

    Every stream gives its newest sample not younger than the tick, never one from after it; how
    much older it is goes into the observation's `ages`.

    :param cameras: names, the policy's camera first.
    :param decode: turns a camera's name and the content of its sample into what
        `Observation.images` may hold; called when the image is first asked for.
    :param history_s: how long samples are kept, s.
    """

    def __init__(self, cameras: Sequence[str], decode: Callable[[str, Any], Any],
                 history_s: float = 2.0) -> None:
        history_ns = int(history_s * 1e9)
        self.cameras = tuple(cameras)
        self.images = {camera: Track(history_ns) for camera in cameras}
        self.states, self.poses = Track(history_ns), Track(history_ns)
        self._decode = decode

    @property
    def _tracks(self) -> tuple[Track, ...]:
        return (*self.images.values(), self.states, self.poses)

    def clear(self) -> None:
        """Forget everything: the clock that stamped it was stepped back."""
        for track in self._tracks:
            track.clear()

    def passed(self, stamp_ns: int) -> bool:
        """Say whether every stream has given something younger: nothing older will come."""
        return all(track.newest is not None and track.newest.stamp_ns > stamp_ns
                   for track in self._tracks)

    def seen_at(self, stamp_ns: int, max_age_s: float) -> Observation:
        """
        Return what a command with this stamp was computed from.

        :param stamp_ns: of the tick: capture time of the image that the policy saw, or the time
            at which the operator sent the command.
        :param max_age_s: an image this much older than the stamp was not what was acted on, s.
        :raises UnseenError: when there is no such image from every camera.
        """
        frames = {camera: self._frame(camera, stamp_ns, max_age_s) for camera in self.cameras}
        main = frames[self.cameras[0]]
        ages = {camera: stamp_ns - frame.stamp_ns for camera, frame in frames.items()}
        observation = Observation(
            LateImages(frames, self._decode),
            capture_stamp=main.stamp_ns, receive_stamp=main.receive_ns, ages=ages)
        state, ages[STATES] = _recent(self.states, stamp_ns)
        if state is not None:
            observation.joint_positions = state.joint_positions
            observation.joint_velocities = state.joint_velocities
            observation.joint_efforts = state.joint_efforts
            observation.gripper = state.gripper
        pose, ages[POSES] = _recent(self.poses, stamp_ns)
        if pose is not None:
            observation.ee_pose = pose
        return observation

    def seen_after(self, stamp_ns: int, max_age_s: float, waiting: bool = True,
                   ) -> Observation | None:
        """
        Return the first observation captured at a time or later, None when there is none.

        :param waiting: say None as well while a stream may still give something nearer to it.
        """
        image = self.images[self.cameras[0]].after(stamp_ns)
        if image is None or (waiting and not self.passed(image.stamp_ns)):
            return None
        try:
            return self.seen_at(image.stamp_ns, max_age_s)
        except UnseenError:
            return None

    def _frame(self, camera: str, stamp_ns: int, max_age_s: float) -> Sample:
        frame = self.images[camera].before(stamp_ns)
        if frame is None:
            raise UnseenError(camera, f'no image of {camera} as old as the command')
        age_s = (stamp_ns - frame.stamp_ns) * 1e-9
        if age_s > max_age_s:
            raise UnseenError(camera, f'no image of {camera} that belongs to the command: the '
                              f'newest before it is {age_s:.2f} s older')
        return frame


class LateImages(Mapping):
    """
    The images of one step, each decoded when it is asked for: by whoever writes it to disk.

    :param samples: by camera.
    :param decode: see `Alignment`.
    """

    def __init__(self, samples: dict[str, Sample], decode: Callable[[str, Any], Any]) -> None:
        self._samples, self._decode = samples, decode

    @property
    def nbytes(self) -> int:
        """Bytes they hold while they wait."""
        return sum(sample.nbytes for sample in self._samples.values())

    def __getitem__(self, camera: str) -> Any:
        return self._decode(camera, self._samples[camera].content)

    def __iter__(self) -> Iterator[str]:
        return iter(self._samples)

    def __len__(self) -> int:
        return len(self._samples)


def _recent(track: Track, stamp_ns: int) -> tuple[Any, int]:
    """Return the content and age (ns) of the newest sample not younger; None and -1 for none."""
    sample = track.before(stamp_ns)
    if sample is None or stamp_ns - sample.stamp_ns > STATE_TOLERANCE_NS:
        return None, -1
    return sample.content, stamp_ns - sample.stamp_ns
