"""The embedded MuJoCo WidowX: world, tasks, demonstrators, environment."""

import gymnasium

ENVIRONMENT_ID = 'stable_crl_ros/WidowX-v0'

if ENVIRONMENT_ID not in gymnasium.registry:
    gymnasium.register(id=ENVIRONMENT_ID, entry_point='stable_crl_ros.sim.env:WidowXEnv')
