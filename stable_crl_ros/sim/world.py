"""The simulated world: a WidowX 250s at a table with a drawer and a block, and one camera."""

from dataclasses import dataclass, replace
import math
from pathlib import Path
import threading
import time

import numpy as np
from stable_crl_ros.robot.arm import ArmState
from stable_crl_ros.robot.gripper import finger_position, opening_from_finger
from stable_crl_ros.robot.kinematics import JOINT_NAMES, START
from stable_crl_ros.robot.poses import rotation_from_vector
from stable_crl_ros.sim.appearance import Appearance
from stable_crl_ros.sim.rendering import Camera, mujoco, WorldError

__all__ = ['CAMERA_NAME', 'CAMERA_SIZE', 'World', 'WorldError', 'WorldState']

MODEL_PATH = Path(__file__).parent / 'assets' / 'widowx.xml'
CAMERA_NAME = 'over_shoulder'
CAMERA_SIZE = (240, 320)  # rows, columns
DRAWER_TRAVEL = 0.14  # m
BLOCK_SIZE = 0.03  # m
# A block standing in this zone (x, y, z; m) latches the closed drawer, as an object in front of it
# does in the paper's benchmark: whoever wants to open it has to push the block away first.
LATCH_LOW, LATCH_HIGH = (0.18, -0.17, 0.0), (0.36, 0.07, BLOCK_SIZE)
LATCH_TRAVEL = 0.03  # m, drawers opened less are closed enough to be latched
SCENE_CENTRE = (0.30, 0.02, 0.05)  # m, about which another appearance moves the camera
DRAWER_GEOMS = ('drawer_front', 'drawer_left', 'drawer_right', 'drawer_back')
GEAR_FRICTION = 1.5  # N m s/rad, of a joint whose motor is limp
BLOCK_AWAY = (0.28, 0.14, BLOCK_SIZE / 2)  # m, where the block waits when a task ignores it


@dataclass(frozen=True)
class WorldState:
    """
    Everything that moves, at rest.

    :param joints: (6,) rad, in the order of `JOINT_NAMES`.
    :param gripper: 0 closed .. 1 open.
    :param drawer: opening, m, 0 closed.
    :param block: (3,) m, the block's middle in base_link.
    :param block_yaw: rad about base z.
    """

    joints: tuple[float, ...] = tuple(START)
    gripper: float = 1.0
    drawer: float = 0.0
    block: tuple[float, ...] = BLOCK_AWAY
    block_yaw: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, 'joints', tuple(float(angle) for angle in self.joints))
        object.__setattr__(self, 'block', tuple(float(value) for value in self.block))
        numbers = (*self.joints, self.gripper, self.drawer, *self.block, self.block_yaw)
        if len(self.joints) != len(JOINT_NAMES) or len(self.block) != 3:
            raise WorldError(f'a world state needs {len(JOINT_NAMES)} joints and 3 block '
                             f'coordinates, got {len(self.joints)} and {len(self.block)}')
        if not all(math.isfinite(value) for value in numbers):
            raise WorldError(f'a world state holds a number that is not finite: {self}')
        if not 0.0 <= self.gripper <= 1.0:
            raise WorldError(f'gripper opening {self.gripper} is outside 0 (closed) to 1 (open)')
        if not 0.0 <= self.drawer <= DRAWER_TRAVEL:
            raise WorldError(f'drawer opening {self.drawer} m is outside 0 to {DRAWER_TRAVEL}')

    def with_drawer(self, opening: float) -> 'WorldState':
        """Return the same scene with another drawer opening (m)."""
        return replace(self, drawer=opening)


class World:
    """
    One physics state and one camera; safe to use from several threads.

    `lock` guards the physics. A picture holds it only while the scene is copied.

    :param size: rows, columns of a picture, pixels; at most `CAMERA_SIZE`.
    :raises WorldError: for another size.
    """

    def __init__(self, size: tuple[int, int] = CAMERA_SIZE) -> None:
        if not all(0 < pixels <= most for pixels, most in zip(size, CAMERA_SIZE, strict=True)):
            raise WorldError(f'picture size {size} must be within 1 x 1 and {CAMERA_SIZE} '
                             f'(rows, columns)')
        self.lock = threading.RLock()
        self._model = mujoco.MjModel.from_xml_path(str(MODEL_PATH))
        self._data = mujoco.MjData(self._model)
        self._camera = Camera(self._model, CAMERA_NAME, size)
        joint = self._model.joint
        self._arm_qpos = np.array([joint(name).qposadr[0] for name in JOINT_NAMES])
        self._arm_dofs = np.array([joint(name).dofadr[0] for name in JOINT_NAMES])
        self._arm_bodies = self._model.jnt_bodyid[
            [joint(name).id for name in (*JOINT_NAMES, 'left_finger', 'right_finger')]]
        self._model.actuator_group[:] = range(self._model.nu)  # so that each can be disabled
        self._fingers = [joint(f'{side}_finger').qposadr[0] for side in ('left', 'right')]
        self._drawer = joint('drawer').qposadr[0]
        self._latch = self._model.equality('latch').id
        self._block = joint('block').qposadr[0]
        self._tool = self._model.site('tool').id
        view = self._model.camera(CAMERA_NAME)
        self._view = view.pos.copy(), view.quat.copy()
        self.reset(WorldState())

    def __enter__(self) -> 'World':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the camera's GL context; physics stays usable."""
        self._camera.close()

    def reset(self, state: WorldState) -> None:
        """Put everything where `state` says, at rest, and let the motors hold it."""
        with self.lock:
            mujoco.mj_resetData(self._model, self._data)
            qpos = self._data.qpos
            qpos[self._arm_qpos] = state.joints
            qpos[self._fingers] = finger_position(state.gripper)
            qpos[self._drawer] = state.drawer
            qpos[self._block:self._block + 3] = state.block
            half = state.block_yaw / 2
            qpos[self._block + 3:self._block + 7] = math.cos(half), 0.0, 0.0, math.sin(half)
            self.set_arm_targets(np.array(state.joints), state.gripper)
            mujoco.mj_forward(self._model, self._data)

    def set_appearance(self, appearance: Appearance) -> None:
        """Repaint the scene and move the camera; nothing else changes, and `reset` keeps it."""
        (position, quaternion), centre = self._view, np.array(SCENE_CENTRE)
        turned = np.zeros(9)
        mujoco.mju_quat2Mat(turned, quaternion)
        axes = turned.reshape(3, 3)
        turn = (rotation_from_vector(np.array([0.0, 0.0, appearance.camera_yaw]))
                @ rotation_from_vector(-appearance.camera_pitch * axes[:, 0]))
        with self.lock:
            view = self._model.camera(CAMERA_NAME)
            view.pos[:] = centre + turn @ (position - centre) + appearance.camera_shift
            mujoco.mju_mat2Quat(view.quat, (turn @ axes).ravel())
            for name in DRAWER_GEOMS:
                self._model.geom(name).rgba[:3] = appearance.drawer
            self._model.geom('block').rgba[:3] = appearance.block
            self._model.geom('table').rgba[:3] = appearance.table
            mujoco.mj_camlight(self._model, self._data)

    def set_arm_targets(self, joints: np.ndarray, gripper: float) -> None:
        """
        Set what the motors move towards.

        :param joints: (6,) rad.
        :param gripper: 0 closed .. 1 open.
        :raises WorldError: for numbers that are not finite; the targets stay as they were.
        """
        if not (np.isfinite(joints).all() and math.isfinite(gripper)):
            raise WorldError(f'arm targets are not finite: joints {joints}, gripper {gripper}')
        with self.lock:
            self._data.ctrl[:len(JOINT_NAMES)] = joints
            self._data.ctrl[len(JOINT_NAMES)] = finger_position(gripper)

    def arm_targets(self) -> tuple[np.ndarray, float]:
        """Return what the motors move towards: (6,) rad, opening 0 closed .. 1 open."""
        with self.lock:
            *joints, finger = self._data.ctrl[:len(JOINT_NAMES) + 1].tolist()
        return np.array(joints), opening_from_finger(finger)

    def set_torque(self, powered: np.ndarray) -> None:
        """
        Let motors hold or go limp; while an arm motor is limp, the arm has its weight.

        :param powered: (7,) bool, the six joints and the gripper.
        """
        with self.lock:
            self._model.opt.disableactuator = sum(1 << motor for motor, on in enumerate(powered)
                                                  if not on)
            joints = np.asarray(powered[:len(JOINT_NAMES)], bool)
            self._model.dof_damping[self._arm_dofs] = np.where(joints, 0.0, GEAR_FRICTION)
            self._model.body_gravcomp[self._arm_bodies] = float(joints.all())

    def advance(self, seconds: float) -> None:
        """Let `seconds` of simulated time pass, in whole physics steps (4 ms)."""
        steps = round(seconds / self._model.opt.timestep)
        with self.lock:
            self._set_latch()
            mujoco.mj_step(self._model, self._data, nstep=steps)
            # A step ends with new joint positions but the link poses from before it.
            mujoco.mj_kinematics(self._model, self._data)

    def _set_latch(self) -> None:
        latched = self.latched
        if latched and not self._data.eq_active[self._latch]:
            self._model.eq_data[self._latch, 0] = max(self.drawer_opening, 0.0)
        self._data.eq_active[self._latch] = latched

    @property
    def time(self) -> float:
        """Simulated seconds since the last reset."""
        return self._data.time

    def arm_state(self) -> ArmState:
        """Return what the motors would report: rad, rad/s, N m, opening; stamped now."""
        with self.lock:
            data = self._data
            return ArmState(
                stamp_ns=time.time_ns(),
                joint_positions=data.qpos[self._arm_qpos].copy(),
                joint_velocities=data.qvel[self._arm_dofs].copy(),
                joint_efforts=data.actuator_force[:len(JOINT_NAMES)].copy(),
                gripper=opening_from_finger(float(data.qpos[self._fingers].mean())))

    @property
    def ee_pose(self) -> np.ndarray:
        """Pose (4, 4) of the gripper (`ee_gripper_link`) in base_link, m."""
        pose = np.eye(4)
        with self.lock:
            pose[:3, :3] = self._data.site_xmat[self._tool].reshape(3, 3)
            pose[:3, 3] = self._data.site_xpos[self._tool]
        return pose

    @property
    def drawer_opening(self) -> float:
        """Metres, 0 closed."""
        return float(self._data.qpos[self._drawer])

    @property
    def overlap(self) -> float:
        """How deep the two things that overlap most are in each other, m."""
        with self.lock:
            distances = self._data.contact.dist
            return max(-float(distances.min()), 0.0) if len(distances) else 0.0

    @property
    def latched(self) -> bool:
        """Whether the drawer cannot be moved because the block stands in front of it."""
        if self.drawer_opening >= LATCH_TRAVEL:
            return False
        place = zip(LATCH_LOW, self.block_position, LATCH_HIGH, strict=True)
        return all(low < value < high for low, value, high in place)

    @property
    def block_position(self) -> np.ndarray:
        """Middle of the block in base_link, (3,) m."""
        with self.lock:
            return self._data.qpos[self._block:self._block + 3].copy()

    def snapshot(self) -> WorldState:
        """Return the present positions as a state to reset to; velocities are not kept."""
        with self.lock:
            arm = self.arm_state()
            w, x, y, z = self._data.qpos[self._block + 3:self._block + 7]
            return WorldState(
                joints=tuple(arm.joint_positions),
                gripper=arm.gripper,
                drawer=min(max(self.drawer_opening, 0.0), DRAWER_TRAVEL),
                block=tuple(self.block_position),
                block_yaw=math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))

    def render(self) -> np.ndarray:
        """Draw the camera's picture: uint8 RGB, `size` + (3,)."""
        return self.capture()[1]

    def capture(self) -> tuple[int, np.ndarray]:
        """
        Draw the camera's picture. Do not hold `lock` meanwhile.

        :returns: when the scene was copied (ns, system clock); uint8 RGB, `size` + (3,).
        :raises WorldError: after `close`; without a working GL library, naming what to install.
        """
        return self._camera.render(self._copy_scene)

    def _copy_scene(self, renderer: 'mujoco.Renderer', camera: str) -> int:
        with self.lock:
            renderer.update_scene(self._data, camera)
            return time.time_ns()
