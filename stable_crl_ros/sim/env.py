"""Gymnasium environment: reach a goal picture with Bridge actions, as the real arm node would."""

from typing import Any

import gymnasium
import numpy as np
from stable_crl_ros.actions import BRIDGE_HIGH, BRIDGE_LOW
from stable_crl_ros.robot.arm import ServoInterpolator
from stable_crl_ros.robot.poses import DOWN, rpy_from
from stable_crl_ros.robot.safety import apply_action, ArmLimits, Step, StepFlag, Target
from stable_crl_ros.sim.appearance import Appearance, check_split, sample_appearance
from stable_crl_ros.sim.tasks import task_named
from stable_crl_ros.sim.world import CAMERA_SIZE, World, WorldState

CONTROL_PERIOD = 0.2  # s
SERVO_PERIOD = 0.02  # s
# Pictures are this old when the action computed from them begins, in servo periods: the running
# stack takes 15 to 45 ms from capture to motion, and the drawer travels 8 mm in that time.
LATENCY_TICKS = (0, 1, 2, 3)
RESET_OPTIONS = ('start', 'goal', 'appearance')


class EnvError(ValueError):
    """The environment was asked for something it does not know."""


class WidowXEnv(gymnasium.Env):
    """
    One task of `tasks.TASKS` as an environment.

    Observations: 'image' and 'goal_image' (uint8 RGB, rows, columns, 3), 'state' (float32, 7:
    tool point x, y, z in m; roll, pitch, yaw in rad about base axes, 0 pointing down; gripper
    0..1). Actions: m, rad, gripper, within Bridge's box. The reward is minus the largest distance
    (m) of an object from its goal. Info: 'errors' (m, by object), 'error' (the largest), 'success'
    and 'success_loose' (see `Task.tolerances`), 'arm_error' (m, tool point to the goal's, which
    never counts), and what was measured in the world. Episodes are never terminated, only
    truncated. `task` may be replaced between episodes.

    :param task: name in `tasks.TASKS`.
    :param seed: of the first `reset()` that gives none.
    :param limits: of the arm; the defaults are those of the arm node.
    :param size: rows, columns of the pictures.
    :param appearance: split from which each episode draws how the scene looks, one of
        `appearance.SPLITS`; start and goal are those of the nominal scene.
    """

    metadata = {'render_modes': ['rgb_array'], 'render_fps': round(1 / CONTROL_PERIOD)}

    def __init__(
        self, task: str = 'open_drawer', seed: int | None = None,
        limits: ArmLimits | None = None, size: tuple[int, int] = CAMERA_SIZE,
        render_mode: str | None = 'rgb_array', appearance: str = 'nominal',
    ) -> None:
        check_split(appearance)
        self.task = task_named(task)
        self._split = appearance
        self.render_mode = render_mode
        self.world = World(size)
        self.goal = self.start = WorldState()
        self.appearance = self._shown = Appearance()
        self._limits = limits or ArmLimits()
        self._first_seed = seed
        self._goal_image = np.zeros((*size, 3), np.uint8)
        self._goal_tool = np.zeros(3)  # m, where the goal has the tool point
        self._image = self._goal_image
        self._image_age = 0.0
        self._target: Target = Target.from_joints(np.array(self.start.joints), 1.0)
        self._steps = 0
        picture = gymnasium.spaces.Box(0, 255, (*size, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict({
            'image': picture, 'goal_image': picture,
            'state': gymnasium.spaces.Box(-np.pi, np.pi, (7,), np.float32)})
        self.action_space = gymnasium.spaces.Box(
            np.array(BRIDGE_LOW, np.float32), np.array(BRIDGE_HIGH, np.float32))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None,
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """
        Begin an episode.

        :param seed: of the start and goal drawn.
        :param options: 'start' and 'goal', each a `WorldState`, and 'appearance', an
            `Appearance`, instead of those drawn.
        :raises EnvError: for any other option.
        """
        options = options or {}
        unknown = sorted(set(options) - set(RESET_OPTIONS))
        if unknown:
            raise EnvError(f'unknown reset options {unknown}; known are {list(RESET_OPTIONS)}')
        super().reset(seed=seed if seed is not None else self._first_seed)
        self._first_seed = None
        drawn = self.task.sample_start(self.np_random)
        self.start = options.get('start', drawn)
        drawn = self.task.sample_goal(self.np_random, self.start)
        self.goal = options.get('goal', drawn)
        drawn = sample_appearance(self.np_random, self._split)
        self.appearance = options.get('appearance', drawn)
        if self.appearance != self._shown:
            self.world.set_appearance(self.appearance)
            self._shown = self.appearance
        self.world.reset(self.goal)
        self._goal_image = self.world.render()
        self._goal_tool = self.world.ee_pose[:3, 3]
        self.world.reset(self.start)
        self._image, self._image_age = self.world.render(), 0.0
        self._target = Target.from_joints(np.array(self.start.joints), self.start.gripper)
        self._steps = 0
        unmoved = Step(self._target, np.array([*[0.0] * 6, self.start.gripper]), StepFlag(0))
        return self._observe(), self._info(unmoved)

    def step(
        self, action: np.ndarray,
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """
        Execute one action over one control period.

        :param action: (7,) dx, dy, dz (m), droll, dpitch, dyaw (rad, base axes), gripper 0..1.
        """
        step = apply_action(self._target, action, self._limits, CONTROL_PERIOD,
                            measured_pose=self.world.ee_pose)
        self._move(step.target)
        self._steps += 1
        info = self._info(step)
        return (self._observe(), -info['error'], False, self._steps >= self.task.max_steps, info)

    def render(self) -> np.ndarray:
        """Draw the scene: uint8 RGB."""
        return self.world.render()

    def close(self) -> None:
        """Free the camera."""
        self.world.close()

    def _move(self, target: Target) -> None:
        line = ServoInterpolator(
            self._target.joints, target.joints, target.gripper, CONTROL_PERIOD)
        ticks = round(CONTROL_PERIOD / SERVO_PERIOD)
        age = int(self.np_random.choice(LATENCY_TICKS))
        for tick in range(1, ticks + 1):
            self.world.set_arm_targets(*line.sample(tick * SERVO_PERIOD))
            self.world.advance(SERVO_PERIOD)
            if tick == ticks - age:
                self._image, self._image_age = self.world.render(), age * SERVO_PERIOD
        self._target = target

    def _observe(self) -> dict[str, np.ndarray]:
        pose = self.world.ee_pose
        state = [*pose[:3, 3], *rpy_from(pose[:3, :3] @ DOWN.T), self.world.arm_state().gripper]
        return {'image': self._image, 'goal_image': self._goal_image.copy(),
                'state': np.array(state, np.float32)}

    def _info(self, step: Step) -> dict[str, Any]:
        errors, pose = self.task.errors(self.world, self.goal), self.world.ee_pose
        return {
            'error': max(errors.values()), 'errors': errors,
            'success': self.task.within(errors),
            'success_loose': self.task.within(errors, loose=True),
            'arm_error': float(np.linalg.norm(pose[:3, 3] - self._goal_tool)),
            'image_age': self._image_age,
            'drawer_opening': self.world.drawer_opening,
            'block_position': self.world.block_position, 'ee_pose': pose,
            'joint_positions': self.world.arm_state().joint_positions,
            'applied_action': step.applied, 'flags': int(step.flags)}
