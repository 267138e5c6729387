"""Launch camera, goal, policy and arm: bring about what a goal image shows."""

from stable_crl_ros.launch_description import describe


def generate_launch_description():
    """Describe the processes and arguments; `ros2 launch --show-args` lists them."""
    return describe('policy')
