"""Make steps of what a bag holds: for every tick the newest of everything that is not younger."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.exchange.bag_reports import (
    control_steps,
    fields_of,
    interrupted,
    interventions,
)
from stable_crl_ros.exchange.bridge import CONTROL_RATE
from stable_crl_ros.exchange.options import ImportOptions
from stable_crl_ros.exchange.recording import ExchangeError
from stable_crl_ros.message_reading import AppliedAction, decode_command
from stable_crl_ros.robot.poses import delta_between, pose_from_xyz_quaternion

RATE_TOLERANCE = 0.2  # share by which the spacing of twists may differ from the assumed period


class Series:
    """What one topic carried, by stamp."""

    def __init__(self) -> None:
        self._stamps: list[int] = []
        self._values: list[Any] = []

    def __len__(self) -> int:
        return len(self._stamps)

    def add(self, stamp_ns: int, value: Any) -> None:
        """Keep a message; it may come out of order."""
        self._stamps.append(stamp_ns)
        self._values.append(value)

    def order(self) -> np.ndarray:
        """Return the numbers of the messages, sorted by stamp."""
        return np.argsort(np.array(self._stamps, np.int64), kind='stable')

    def stamps(self) -> np.ndarray:
        """Return the stamps, sorted, ns."""
        return np.array(self._stamps, np.int64)[self.order()]

    def values(self) -> list[Any]:
        """Return what was kept, sorted by stamp."""
        return [self._values[number] for number in self.order()]

    def before(self, ticks: np.ndarray) -> np.ndarray:
        """Return for each tick the place of the newest value not younger, -1 where none is."""
        return np.searchsorted(self.stamps(), ticks, side='right') - 1


class Camera(Series):
    """The stamps of one camera's images; the values are when they were received, ns."""


@dataclass
class BagContent:
    """Everything of a bag but the pixels."""

    cameras: dict[str, Camera]
    joints: Series = field(default_factory=Series)  # ArmState
    poses: Series = field(default_factory=Series)  # (7,) x y z, quaternion
    applied: Series = field(default_factory=Series)  # AppliedAction, by capture stamp
    modes: Series = field(default_factory=Series)  # of the arm, by when it was received
    twists: Series = field(default_factory=Series)  # TwistStamped and when it was received
    grippers: Series = field(default_factory=Series)  # opening, by when it was received


@dataclass
class Steps:
    """
    N observations and the actions between them.

    :param rows: camera -> (N,) number of the message in the bag that observation shows.
    :param ages: stream -> (N,) ns by which its sample is older than the tick, -1: none.
    :param meaning: what the actions are.
    :param dropped: ticks without an image that was fresh enough.
    :param gaps: steps just before which ticks were dropped, or the arm was not to be steered.
    """

    rows: dict[str, np.ndarray]
    actions: np.ndarray | None
    states: dict[str, np.ndarray]
    fields: dict[str, np.ndarray]
    ages: dict[str, np.ndarray]
    meaning: str
    mode: Mode
    dropped: int
    gaps: list[int]


def make_steps(content: BagContent, options: ImportOptions, name: str) -> Steps:
    """
    Align a bag's topics to control steps.

    With commands, a step's tick is the stamp of its command, which carries the capture time of
    the image it was computed from. Without, ticks come at the control rate, from the first
    camera's first image on, and actions are differences of poses.

    :raises ExchangeError: when there are no two steps, or what the options ask for is not there.
    """
    kind = _choose(content, options, name)
    reports = content.applied.values()
    if kind == 'applied':
        content = replace(content, applied=_steps_of(reports, name))
    ticks = {'applied': lambda: content.applied.stamps(),
             'commanded': lambda: content.twists.stamps(),
             'poses': lambda: _regular(content, options)}[kind]()
    if kind == 'commanded' and options.rate is None:
        _refuse_other_rate(ticks, name)
    kept = _has_everything(content, ticks, kind, options)
    if kept.sum() < 2:
        raise ExchangeError(f'{name}: {kept.sum()} of {len(ticks)} ticks have an image of every '
                            f'camera not older than {options.max_image_age:g} s; 2 are needed')
    if kind == 'poses':
        _refuse_gaps(kept, name)
    seen, places = ticks[kept], np.flatnonzero(kept)
    if not len(content.grippers) and not len(content.joints) and kind != 'applied':
        raise ExchangeError(f'{name}: neither gripper commands nor joint_states are in it, so '
                            f'the gripper of the actions is unknown; name their topics')
    actions, fields = {'applied': _applied, 'commanded': _commanded, 'poses': _moved}[kind](
        content, seen, places, options)
    meaning = {'applied': 'applied by the arm', 'commanded': 'commanded twists times the control '
               'period', 'poses': 'differences of ee_pose'}[kind]
    rows = {camera: series.order()[series.before(seen)]
            for camera, series in content.cameras.items()}
    fields = {**_stamps(content, seen), **fields}
    mode = Mode.IDLE if kind == 'poses' else Mode.TELEOP
    lost = np.diff(places) > 1
    if kind == 'applied':
        begun_ns = fields['applied_stamp']
        fields['intervention'] = interventions(reports, begun_ns, fields['mode'])
        lost |= interrupted(reports, content.modes.stamps(), content.modes.values(), begun_ns)
    gaps = (np.flatnonzero(lost) + 1).tolist()
    return Steps(rows, actions, _states(content, seen), fields, _ages(content, seen), meaning,
                 mode, int((~kept).sum()), gaps)


def _choose(content: BagContent, options: ImportOptions, name: str) -> str:
    there = {'applied': len(content.applied), 'commanded': len(content.twists),
             'poses': len(content.poses)}
    if options.ros_actions != 'auto':
        if not there[options.ros_actions]:
            raise ExchangeError(f'{name}: no {options.ros_actions} actions in it; it has '
                                f'{[kind for kind, count in there.items() if count] or "none"}')
        return options.ros_actions
    kind = next((kind for kind, count in there.items() if count), None)
    if kind is None:
        raise ExchangeError(f'{name}: neither applied_action nor twist nor ee_pose is in it, so '
                            f'there are no actions; name their topics')
    return kind


def _steps_of(reports: list[AppliedAction], name: str) -> Series:
    steps = Series()
    for report in control_steps(reports):
        steps.add(report.capture_ns, report)
    if not len(steps):
        raise ExchangeError(f'{name}: the arm refused all of the {len(reports)} commands in it')
    return steps


def _regular(content: BagContent, options: ImportOptions) -> np.ndarray:
    stamps = next(iter(content.cameras.values())).stamps()
    first = max(stamps[0], content.poses.stamps()[0])
    last = min(stamps[-1], content.poses.stamps()[-1])
    return np.arange(first, last + 1, int(1e9 / (options.rate or CONTROL_RATE)), np.int64)


def _has_everything(content: BagContent, ticks: np.ndarray, kind: str,
                    options: ImportOptions) -> np.ndarray:
    """Return for each tick whether every camera has an image, and what makes the action is."""
    kept = np.ones(len(ticks), bool)
    for series in content.cameras.values():
        place = series.before(ticks)
        stamps = series.stamps()
        age = ticks - stamps[np.maximum(place, 0)] if len(stamps) else ticks
        kept &= (place >= 0) & (age <= options.max_image_age * 1e9)
    if kind == 'poses':
        kept &= content.poses.before(ticks) >= 0
    return kept


def _refuse_other_rate(ticks: np.ndarray, name: str) -> None:
    """A velocity is what an action of the assumed period is made from."""
    measured = 1e9 / max(float(np.median(np.diff(ticks))), 1.0) if len(ticks) > 1 else CONTROL_RATE
    if abs(CONTROL_RATE / measured - 1) > RATE_TOLERANCE:
        raise ExchangeError(f'{name}: its twists come at {measured:.3g} Hz, so actions of '
                            f'{CONTROL_RATE:g} Hz would be too long or too short; give --rate '
                            f'{measured:.3g}, or the rate they were meant for')


def _refuse_gaps(kept: np.ndarray, name: str) -> None:
    """A difference of poses over a gap would be one large action that was never made."""
    inside = np.flatnonzero(kept)
    missing = np.flatnonzero(~kept[inside[0]:inside[-1] + 1])
    if len(missing):
        raise ExchangeError(f'{name}: {len(missing)} ticks have no image that is fresh enough, '
                            f'the first is number {missing[0] + inside[0]}; cut the bag there, '
                            f'or raise --max-image-age')


def _applied(content: BagContent, seen: np.ndarray, places: np.ndarray,
             options: ImportOptions) -> tuple[np.ndarray, dict]:
    values = content.applied.values()
    return fields_of([values[place] for place in places])


def _commanded(content: BagContent, seen: np.ndarray, places: np.ndarray,
               options: ImportOptions) -> tuple[np.ndarray, dict]:
    values = content.twists.values()
    period_s = 1.0 / (options.rate or CONTROL_RATE)
    deltas = np.array([decode_command(values[place][0], period_s) for place in places])
    received = np.int64([values[place][1] for place in places])
    opening = _opening(content, received, seen)
    return np.float32(np.concatenate([deltas, opening[:, None]], axis=1)), {
        'command_stamp': received}


def _moved(content: BagContent, seen: np.ndarray, places: np.ndarray,
           options: ImportOptions) -> tuple[np.ndarray, dict]:
    values = content.poses.values()
    poses = [pose_from_xyz_quaternion(values[place]) for place in content.poses.before(seen)]
    deltas = np.array([delta_between(*pair) for pair in zip(poses, poses[1:], strict=False)])
    opening = _opening(content, seen, seen)[1:]  # what the step led to
    return np.float32(np.concatenate([deltas, opening[:, None]], axis=1)), {}


def _opening(content: BagContent, commanded_at: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the gripper's setpoint at each tick; where none was sent, what was measured."""
    measured = _measured(content, seen)['gripper'] if len(content.joints) \
        else np.full(len(seen), np.nan)  # a command that comes later is refused as not finite
    if not len(content.grippers):
        return measured
    place = content.grippers.before(commanded_at)
    values = np.array(content.grippers.values())
    return np.where(place >= 0, values[np.maximum(place, 0)], measured)


def _stamps(content: BagContent, seen: np.ndarray) -> dict[str, np.ndarray]:
    """Return when the first camera's images were taken and received, (N,) ns."""
    camera = next(iter(content.cameras.values()))
    place = camera.before(seen)
    return {'capture_stamp': camera.stamps()[place],
            'receive_stamp': np.array(camera.values(), np.int64)[place]}


def _ages(content: BagContent, seen: np.ndarray) -> dict[str, np.ndarray]:
    ages = {}
    for stream, series in (*content.cameras.items(), ('joint_states', content.joints),
                           ('ee_pose', content.poses)):
        if len(series):
            place = series.before(seen)
            ages[stream] = np.where(place < 0, -1, seen - series.stamps()[np.maximum(place, 0)])
    return ages


def _states(content: BagContent, seen: np.ndarray) -> dict[str, np.ndarray]:
    states = _measured(content, seen) if len(content.joints) else {}
    if len(content.poses):
        states['ee_pose'] = _rows(content.poses, seen, content.poses.values())
    return states


def _measured(content: BagContent, seen: np.ndarray) -> dict[str, np.ndarray]:
    readings = content.joints.values()
    return {name: _rows(content.joints, seen, [getattr(reading, name) for reading in readings])
            for name in ('joint_positions', 'joint_velocities', 'joint_efforts', 'gripper')}


def _rows(series: Series, seen: np.ndarray, values: list) -> np.ndarray:
    """Return the newest value at each tick; NaN before the first."""
    place = series.before(seen)
    rows = np.float32(values)[np.maximum(place, 0)]
    rows[place < 0] = np.nan
    return rows
