"""An arm behind ros2_control: setpoints as one-point trajectories, states from a topic."""

import time

from builtin_interfaces.msg import Duration
import numpy as np
from stable_crl_ros.nodes.joint_feed import JointFeed, MEETING_S
from stable_crl_ros.nodes.messages import FINGERS
from stable_crl_ros.patience import wait_until
from stable_crl_ros.robot.arm import ArmError, ArmFault, ArmState, check_setpoint
from stable_crl_ros.robot.gripper import finger_position
from stable_crl_ros.robot.kinematics import JOINT_NAMES
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

_AHEAD = 2.0  # servo periods; the controller is still moving when the next point comes


class JointTrajectoryArm:
    """
    `robot.arm.ArmDriver` that publishes `trajectory_msgs/JointTrajectory`.

    A trajectory has one point, stamped 0 (begin at once), to be reached two servo periods later.
    Faults of the motors are the business of the hardware's own driver: here a fault shows as
    joint states that stop.

    :param feed: of the joint states; closed with this driver.
    :param topic: of the arm's trajectory controller.
    :param gripper_topic: of the gripper's, commanded by left_finger (m); '' for no gripper.
    :param period_s: servo period, s.
    """

    def __init__(
        self, feed: JointFeed, topic: str, gripper_topic: str, period_s: float,
    ) -> None:
        self._feed, self._period_s = feed, period_s
        create = feed.node.create_publisher
        self._arm = create(JointTrajectory, topic, 1)
        self._gripper = create(JointTrajectory, gripper_topic, 1) if gripper_topic else None
        self._opening: float | None = None

    def connect(self) -> None:
        """
        Wait for joint states, and for a controller that listens.

        :raises ArmError: naming the topic that is missing.
        """
        self._feed.wait()
        for publisher in filter(None, (self._arm, self._gripper)):
            # The joint states may be heard before the controller's subscription is.
            if not wait_until(publisher.get_subscription_count, MEETING_S,
                              lambda: time.sleep(0.01)):
                raise ArmError(f'nobody listens to {publisher.topic_name}; start the trajectory '
                               'controller, or name its topic')
        self._opening = None

    def close(self) -> None:
        """Publish no more; the controller holds the last point."""
        self._feed.close()

    def read(self) -> ArmState:
        """
        Return the newest joint states, with their own stamp.

        :raises ArmError: when they are too old.
        """
        return self._feed.state()

    def write(self, joint_positions: np.ndarray, gripper: float) -> None:
        """
        Publish one setpoint; the gripper only when it changes.

        :raises ArmError: for a setpoint that is none.
        """
        joints = check_setpoint(joint_positions, gripper)
        self._arm.publish(self._trajectory(JOINT_NAMES, joints.tolist()))
        if self._gripper is not None and gripper != self._opening:
            self._opening = gripper
            self._gripper.publish(self._trajectory(FINGERS[:1], [finger_position(gripper)]))

    def _trajectory(self, names, positions: list[float]) -> JointTrajectory:
        seconds, rest = divmod(round(_AHEAD * self._period_s * 1e9), 10 ** 9)
        point = JointTrajectoryPoint(positions=positions,
                                     time_from_start=Duration(sec=seconds, nanosec=rest))
        return JointTrajectory(joint_names=list(names), points=[point])

    def setpoint(self) -> tuple[np.ndarray, float] | None:
        """
        Return the opening sent last, and the joints where they are: others may have moved them.

        :returns: None before an opening was sent.
        """
        return None if self._opening is None else (self._feed.state().joint_positions,
                                                   self._opening)

    def faults(self) -> list[ArmFault]:
        """Return an empty list: this driver hears of none."""
        return []

    def clear_faults(self) -> str:
        """Return where the arm stands: faults of the motors are cleared in their own driver."""
        self._feed.state()
        return 'joint states come in'

    def health(self) -> dict[str, str]:
        """Return the topics in use."""
        return {'joint_states': self._feed.topic, 'trajectory': self._arm.topic_name}
