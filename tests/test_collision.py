"""The capsule model: it holds the simulated arm, and stays out of the way of ordinary work."""

import math

import mujoco
import numpy as np
import pytest
from stable_crl_ros.robot.collision import BASE, capsules, nearest, segment_distance, TABLE
from stable_crl_ros.robot.kinematics import (
    forward_kinematics,
    HOME,
    inverse_kinematics_all,
    JOINT_LOWER,
    JOINT_NAMES,
    JOINT_UPPER,
    SLEEP,
    START,
)
from stable_crl_ros.robot.limits import ArmLimits
from stable_crl_ros.robot.poses import DOWN, pose_of, rotation_from, rotation_from_vector
from stable_crl_ros.sim.world import MODEL_PATH

BASE_GEOMS = ('base', 'shoulder')
UPPER_ARM = ('upper_arm', 'upper_arm_head')
FOREARM = ('upper_forearm', 'lower_forearm')
HAND = ('wrist', 'gripper_hand', 'gripper_bar', 'left_pad', 'right_pad')
# What may touch: forearm and hand the base, the hand the upper arm, all but the fingers the table.
PAIRS = [*((part, base) for part in (*FOREARM, *HAND) for base in BASE_GEOMS),
         *((part, arm) for part in HAND for arm in UPPER_ARM),
         *((part, 'table') for part in (*FOREARM, *HAND[:3], 'upper_arm_head'))]


class SimulatedArm:
    """Distances between the bodies of the MuJoCo model."""

    def __init__(self):
        self.model = mujoco.MjModel.from_xml_path(str(MODEL_PATH))
        self.data = mujoco.MjData(self.model)
        self.joints = [self.model.joint(name).qposadr[0] for name in JOINT_NAMES]
        self.fingers = [self.model.joint(f'{side}_finger').qposadr[0]
                        for side in ('left', 'right')]

    def distance(self, joints, finger, pairs=PAIRS):
        self.data.qpos[self.joints], self.data.qpos[self.fingers] = joints, finger
        mujoco.mj_kinematics(self.model, self.data)
        return min(mujoco.mj_geomDistance(
            self.model, self.data, self.model.geom(first).id, self.model.geom(second).id, 0.5,
            None) for first, second in pairs)


@pytest.fixture(scope='module')
def arm():
    return SimulatedArm()


def random_joints(seed, count):
    return np.random.default_rng(seed).uniform(JOINT_LOWER, JOINT_UPPER, (count, 6))


@pytest.mark.parametrize(('second', 'distance'), [
    (((0, 1, 1), (0, -1, 1)), 1.0),  # across, above the middle
    (((2, 0, 0), (5, 0, 0)), 1.0),  # in line, apart
    (((0.5, 0, 0), (3, 0, 0)), 0.0),  # in line, overlapping
    (((-1, 2, 0), (1, 2, 0)), 2.0),  # parallel
    (((4, 4, 0), (4, 9, 0)), 5.0),  # end to end: 3, 4, 5
    (((0, 0, 3), (0, 0, 3)), 3.0),  # a point
])
def test_distances_between_lines_are_those_of_school_geometry(second, distance):
    first = ((-1, 0, 0), (1, 0, 0))
    assert segment_distance(*first, *second) == pytest.approx(distance)
    assert segment_distance(*second, *first) == pytest.approx(distance)


def test_distances_between_random_lines_are_the_smallest_of_any_two_points():
    rng = np.random.default_rng(0)
    along = np.linspace(0, 1, 201)[:, None]
    for _ in range(100):
        a, b, c, d = rng.normal(size=(4, 3))
        points, others = a + along * (b - a), c + along * (d - c)
        sampled = np.linalg.norm(points[:, None] - others, axis=2).min()
        exact = segment_distance(tuple(a), tuple(b), tuple(c), tuple(d))
        assert exact <= sampled + 1e-12
        assert exact == pytest.approx(sampled, abs=0.02)


def test_the_capsules_follow_the_arm():
    for joints in random_joints(1, 50):
        upper, (forearm, wrist, *_, fingers) = capsules(joints)
        pose = forward_kinematics(joints)
        middle = 0.5 * (np.array(fingers.start) + fingers.end)
        tool = pose[:3, 3]
        assert upper[1].end == forearm.start and forearm.end == wrist.start
        assert np.linalg.norm(middle - tool) < 0.001  # the fingers hold the tool point
        across = np.array(fingers.start) - fingers.end
        assert abs(across @ pose[:3, 0]) < 1e-12  # and stand across the gripper's axis


def test_every_touch_of_the_simulated_arm_is_detected(arm):
    """Capsules that hold the bodies are never further apart than they."""
    touching = 0
    for joints in random_joints(2, 3000):
        for finger in (0.015, 0.037):
            true = arm.distance(joints, finger)
            found = nearest(joints, 0.0)
            assert found.distance <= true + 1e-6
            touching += true <= 0.0
    assert touching > 300


def test_the_model_is_not_much_larger_than_the_simulated_arm(arm):
    slack = [arm.distance(joints, 0.037) - nearest(joints, 0.0).distance
             for joints in random_joints(3, 1000) if nearest(joints, 0.0).second != TABLE]
    assert len(slack) > 100
    assert np.percentile(slack, 95) < 0.06  # the base box behind the waist is not simulated


def test_in_the_default_workspace_nothing_comes_near_however_the_gripper_leans():
    limits, rng, nearby = ArmLimits(), np.random.default_rng(4), []
    for turn in range(2000):
        xyz = rng.uniform(limits.workspace_low, limits.workspace_high)
        if turn % 2:
            xyz[2] = limits.workspace_low[2]
        lean, yaw = rng.uniform(0, math.tau), rng.uniform(-math.pi, math.pi)
        rotation = (rotation_from_vector(limits.max_tilt * np.array(
            [math.cos(lean), math.sin(lean), 0])) @ rotation_from([0, 0, yaw]) @ DOWN)
        nearby += [nearest(joints, 0.0).distance
                   for joints in inverse_kinematics_all(pose_of(rotation, xyz))]
    assert len(nearby) > 2000
    assert min(nearby) > 2 * limits.clearance


@pytest.mark.parametrize(('joints', 'first', 'second'), [
    ([0, 1.98, -2.1, 0, -1, 0], 'upper arm', TABLE),  # the elbow leans down to the table
    ([0, 1.5, -0.3, 0, -1.7, 0], 'forearm', TABLE),
    ([0, -1.8, 1.6, 0, 1.6, 0], 'hand', 'base'),
    (SLEEP, 'wrist', 'shoulder'),  # at rest the hand lies on the shoulder
])
def test_it_says_what_touches_what(joints, first, second):
    found = nearest(np.array(joints, float), 0.0)
    assert found.distance < 0.0
    assert (found.first, found.second) == (first, second)


@pytest.mark.parametrize('joints', [HOME, START])
def test_named_poses_are_clear(joints):
    assert nearest(joints, 0.0).distance > 0.15


def test_a_lower_table_leaves_more_room():
    joints = np.array([0, 1.5, -0.3, 0, -1.7, 0])
    assert nearest(joints, -0.1).distance == pytest.approx(nearest(joints, 0.0).distance + 0.1)


def test_the_base_holds_the_box_of_the_urdfs_inertia():
    for x in (-0.143, 0.05):
        for y in (-0.05, 0.05):
            point = (x, y, 0.03)
            assert min(segment_distance(point, point, part.start, part.end) - part.radius
                       for part in BASE) < 0.02
