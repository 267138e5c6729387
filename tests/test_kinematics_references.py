"""Kinematics against two independent ones: Pinocchio's and the simulated arm's."""

import mujoco
import numpy as np
import pytest
from stable_crl_ros.robot.kinematics import (
    forward_kinematics,
    inverse_kinematics,
    inverse_kinematics_all,
    jacobian,
    JOINT_LOWER,
    JOINT_NAMES,
    JOINT_UPPER,
)
from stable_crl_ros.robot.poses import pose_of
from stable_crl_ros.sim.world import MODEL_PATH

POSES = 2000
# The vendor's URDF: each joint's axis, and its place in the frame of the one before (m).
URDF = (
    ('waist', 'Z', (0, 0, 0.072)), ('shoulder', 'Y', (0, 0, 0.03865)),
    ('elbow', 'Y', (0.04975, 0, 0.25)), ('forearm_roll', 'X', (0.175, 0, 0)),
    ('wrist_angle', 'Y', (0.075, 0, 0)), ('wrist_rotate', 'X', (0.065, 0, 0)))
TOOL = 0.043 + 0.023 + 0.027575  # m, along x: ee_arm, fingers, ee_gripper


class Pinocchio:
    """The arm as Pinocchio computes it."""

    def __init__(self):
        self.pin = pytest.importorskip('pinocchio', reason='`pip install pin` compares with it')
        self.model, parent = self.pin.Model(), 0
        for name, axis, place in URDF:
            joint = getattr(self.pin, f'JointModelR{axis}')()
            parent = self.model.addJoint(parent, joint, self.placement(place), name)
        self.tool = self.model.addFrame(self.pin.Frame(
            'tool', parent, self.placement((TOOL, 0, 0)), self.pin.FrameType.OP_FRAME))
        self.data = self.model.createData()

    def placement(self, xyz):
        return self.pin.SE3(np.eye(3), np.array(xyz, float))

    def pose(self, joints):
        self.pin.framesForwardKinematics(self.model, self.data, joints)
        return self.data.oMf[self.tool].homogeneous.copy()

    def jacobian(self, joints):
        return self.pin.computeFrameJacobian(self.model, self.data, joints, self.tool,
                                             self.pin.ReferenceFrame.LOCAL_WORLD_ALIGNED)

    def solve(self, pose, seed):
        """Return what Newton's method finds from a seed, None when it does not converge."""
        joints, wanted = seed.copy(), self.pin.SE3(pose)
        for _ in range(50):
            self.pin.framesForwardKinematics(self.model, self.data, joints)
            away = self.pin.log(self.data.oMf[self.tool].actInv(wanted)).vector
            if np.linalg.norm(away) < 1e-11:
                return joints
            local = self.pin.computeFrameJacobian(self.model, self.data, joints, self.tool)
            joints = joints + np.linalg.lstsq(local, away, rcond=None)[0]
        return None


@pytest.fixture(scope='module')
def pinocchio():
    return Pinocchio()


@pytest.fixture(scope='module')
def poses():
    return np.random.default_rng(0).uniform(JOINT_LOWER, JOINT_UPPER, (POSES, 6))


def test_forward_kinematics_and_jacobian_are_pinocchios(pinocchio, poses):
    for joints in poses:
        np.testing.assert_allclose(forward_kinematics(joints), pinocchio.pose(joints), atol=1e-14)
        np.testing.assert_allclose(jacobian(joints), pinocchio.jacobian(joints), atol=1e-14)


def test_every_pose_is_solved_within_the_limits_as_pinocchio_confirms(pinocchio, poses):
    rng = np.random.default_rng(1)
    for joints in poses:
        pose = pinocchio.pose(joints)
        seed = np.clip(joints + rng.normal(size=6) * 0.3, JOINT_LOWER, JOINT_UPPER)
        found = inverse_kinematics(pose, seed)
        assert (found >= JOINT_LOWER).all() and (found <= JOINT_UPPER).all()
        np.testing.assert_allclose(pinocchio.pose(found), pose, atol=1e-9)


def test_what_pinocchio_finds_by_iteration_is_one_of_the_branches(pinocchio, poses):
    converged = 0
    for joints in poses[:200]:
        pose = forward_kinematics(joints)
        found = pinocchio.solve(pose, joints + 0.02)
        if found is None or (found < JOINT_LOWER).any() or (found > JOINT_UPPER).any():
            continue
        converged += 1
        branches = inverse_kinematics_all(pose)
        assert np.abs(branches - found).max(axis=1).min() < 1e-6
    assert converged > 150


def test_the_simulated_arm_is_where_the_kinematics_say_it_is(poses):
    model = mujoco.MjModel.from_xml_path(str(MODEL_PATH))
    data, tool = mujoco.MjData(model), model.site('tool').id
    index = [model.joint(name).qposadr[0] for name in JOINT_NAMES]
    dofs = [model.joint(name).dofadr[0] for name in JOINT_NAMES]
    linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
    for joints in poses[:500]:
        data.qpos[index] = joints
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        pose = pose_of(data.site_xmat[tool].reshape(3, 3), data.site_xpos[tool])
        np.testing.assert_allclose(forward_kinematics(joints), pose, atol=1e-12)
        mujoco.mj_jacSite(model, data, linear, angular, tool)
        np.testing.assert_allclose(jacobian(joints), np.vstack([linear, angular])[:, dofs],
                                   atol=1e-12)


def test_the_simulated_arm_has_the_same_joint_limits():
    model = mujoco.MjModel.from_xml_path(str(MODEL_PATH))
    ranges = np.array([model.joint(name).range for name in JOINT_NAMES])
    np.testing.assert_allclose(ranges, np.column_stack([JOINT_LOWER, JOINT_UPPER]), atol=1e-7)
