"""The simulated world as what emulated servos turn: their goals in, their measurements out."""

from collections.abc import Callable
from dataclasses import replace
import time

import numpy as np
from stable_crl_ros.robot.gripper import horn_angle, opening_from_angle
from stable_crl_ros.robot.kinematics import JOINT_NAMES
from stable_crl_ros.servo_bus.arms import arm_servos, GRIPPER
from stable_crl_ros.servo_bus.servo import Drive, Feel
from stable_crl_ros.sim.real_time import RealTime
from stable_crl_ros.sim.world import World, WorldError, WorldState

SLICE = 0.012  # s, physics advanced between two looks at the servos
MAX_OVERLAP = 0.003  # m, by which things may be pressed into each other after a reset
_STILL = 0.02  # rad/s


class ServoWorld:
    """
    `servo_bus.ServoArm` with physics: a WidowX 250s at its table, kept at the speed of real time.

    Until a motor first has torque, somebody holds its joint. Use it for one bus.

    :param world: shared with the camera; the caller closes it, after this.
    """

    period_s = None

    def __init__(self, world: World) -> None:
        self._world = world
        self._motors = {joint: [spec for spec in arm_servos('wx250s') if spec.joint == joint]
                        for joint in (*JOINT_NAMES, GRIPPER)}
        self._drives: Callable[[float], dict[int, Drive]] | None = None
        self._supported = set(self._motors)
        self._jammed: set[str] = set()
        self._felt: dict[str, Feel] = {}
        self._felt = self._measure()
        self._time = RealTime(self._advance, SLICE)

    def attach(self, drives: Callable[[float], dict[int, Drive]]) -> None:
        """Take the function that says what the motors are told, and let time run."""
        self._drives = drives
        self._felt = self._measure()
        self._time.start()

    @property
    def failure(self) -> Exception | None:
        """What ended the physics; None while all is well."""
        return self._time.failure

    def close(self) -> None:
        """Stop the simulated time. Calling it twice is harmless."""
        self._time.stop()

    def feel(self, now: float) -> dict[str, Feel]:
        """
        Return angle, velocity and load of every joint, as after the last slice.

        :raises WorldError: when the physics has failed.
        """
        if self._time.failure is not None:
            raise WorldError(f'the simulation stopped: {self._time.failure}')
        return self._felt

    def jam(self, joint: str, jammed: bool) -> None:
        """Block a joint, or free it."""
        (self._jammed.add if jammed else self._jammed.discard)(joint)

    @property
    def moving(self) -> bool:
        """Say whether a joint moves."""
        return any(abs(feel.velocity) > _STILL for feel in self._felt.values())

    def place(self, start: WorldState) -> str:
        """
        Put the scene where `start` says, and the arm as long as no motor has had torque.

        :returns: where the arm is now, to be told to whoever asked.
        :raises WorldError: when the arm stands in the way; the scene stays as it was.
        """
        if len(self._supported) == len(self._motors):
            self._world.reset(start)
            self._felt = self._measure()
            return ''
        with self._world.lock:
            before = self._world.snapshot()
            # A motor under torque knows of no reset: its joint stays where it is.
            self._world.reset(replace(start, joints=before.joints, gripper=before.gripper))
            if self._world.overlap > MAX_OVERLAP:
                self._world.reset(before)
                raise WorldError('the arm stands where drawer or block would be; send it home '
                                 'first (arm/home)')
        return '; the arm stays where it is (arm/home moves it)'

    def _advance(self, seconds: float) -> None:
        drives = self._drives(time.monotonic())
        targets, powered = [], []
        for joint, motors in self._motors.items():
            pulls = [drives[spec.servo] for spec in motors if drives[spec.servo].torque]
            if pulls:
                self._supported.discard(joint)
            held = joint in self._jammed or not pulls
            targets.append(self._felt[joint].angle if held
                           else sum(pull.angle for pull in pulls) / len(pulls))
            powered.append(bool(pulls) or joint in self._supported or joint in self._jammed)
        self._world.set_torque(np.array(powered))
        self._world.set_arm_targets(np.array(targets[:-1]), opening_from_angle(targets[-1]))
        self._world.advance(seconds)
        self._felt = self._measure()

    def _measure(self) -> dict[str, Feel]:
        state = self._world.arm_state()
        feels = {}
        for joint, angle, velocity, torque in zip(
                JOINT_NAMES, state.joint_positions.tolist(), state.joint_velocities.tolist(),
                state.joint_efforts.tolist(), strict=True):
            strongest = sum(spec.model.torque for spec in self._motors[joint])
            feels[joint] = Feel(angle, velocity, torque / strongest)
        feels[GRIPPER] = self._gripper(horn_angle(state.gripper))
        return feels

    def _gripper(self, angle: float) -> Feel:
        before = self._felt[GRIPPER].angle if self._felt else angle
        return Feel(angle, (angle - before) / SLICE)
