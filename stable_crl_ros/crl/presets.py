"""Named recipes: which algorithm, and what differs from its defaults."""

from collections.abc import Mapping

from stable_crl_ros.actions import ACTION_DIM
from stable_crl_ros.crl.agent import Agent
from stable_crl_ros.crl.config import AgentConfig, ConfigError
from stable_crl_ros.crl.gcbc import GCBC, GCBCConfig
from stable_crl_ros.crl.stable_crl import StableCRL, StableCRLConfig

ALGORITHMS = {'stable_crl': (StableCRL, StableCRLConfig), 'gcbc': (GCBC, GCBCConfig)}

# Drawer tasks on two CPU cores in minutes; a fixed camera needs no augmentation.
LAPTOP_ACTOR = {
    'channels': (16, 32, 32), 'actor_hidden': (256,) * 4, 'batch_size': 256, 'steps': 4000,
    'learning_rate': 5e-4, 'discount': 0.95, 'augmentation': 'none',
}

# The authors' configuration for WidowX and BridgeData V2, on one GPU.
BRIDGE_ACTOR = {
    'image_size': 128, 'interpolation': 'lanczos', 'pixel_range': 'symmetric',
    'encoder': 'resnet34', 'activation': 'swish', 'hidden_gain': 1.0,
    'actor_hidden': (256,) * 3, 'actor_norm': 'none', 'actor_dropout': 0.1,
    'actor_final_init': 0.0, 'std': 1.0, 'augmentation': 'jitter', 'augment_probability': 1.0,
    'action_scale': 'statistics', 'actor_goal': 'uniform', 'discount': 0.98, 'batch_size': 256,
    'steps': 2_000_000, 'warmup_steps': 2000, 'actor_decay_steps': 2_000_000,
}

PRESETS = {
    'sim': ('stable_crl', {}),
    'sim-gcbc': ('gcbc', {}),
    'laptop': ('stable_crl', LAPTOP_ACTOR | {
        'critic_hidden': (256,) * 4, 'critic_loss': 'mc',
        # At the authors' 0.05 these small networks let the actor exploit the critic: 37 % of 100
        # drawers opened to within 10 mm, against 100 % at 0.8 (README).
        'bc_coefficient': 0.8,
    }),
    'laptop-gcbc': ('gcbc', LAPTOP_ACTOR),
    'bridge': ('stable_crl', BRIDGE_ACTOR | {
        'critic_hidden': (256,) * 3, 'critic_norm': 'affine', 'critic_skip_last_norm': False,
        'target_update_rate': 0.002, 'bc_coefficient': 0.2, 'augment_critic': True,
    }),
    'bridge-gcbc': ('gcbc', BRIDGE_ACTOR),
}


def make_config(preset: str, overrides: Mapping | None = None) -> tuple[str, AgentConfig]:
    """
    Read a preset and change some of its settings.

    :param preset: a name of `PRESETS`.
    :param overrides: values or strings by setting.
    :returns: the algorithm's name and its configuration.
    :raises ConfigError: for an unknown preset or setting, or a wrong value.
    """
    if preset not in PRESETS:
        raise ConfigError(f'unknown preset {preset!r}; choose one of {", ".join(PRESETS)}')
    algorithm, values = PRESETS[preset]
    config = ALGORITHMS[algorithm][1].from_dict(values)
    return algorithm, config.override(overrides or {})


def make_agent(algorithm: str, config: AgentConfig, action_dim: int = ACTION_DIM,
               device: str = 'cpu', seed: int = 0) -> Agent:
    """Make a fresh learner."""
    return find_algorithm(algorithm)[0](config, action_dim, device, seed)


def find_algorithm(name: str) -> tuple[type[Agent], type[AgentConfig]]:
    """
    Return an algorithm's agent and configuration classes.

    :raises ConfigError: for an unknown name.
    """
    if name not in ALGORITHMS:
        raise ConfigError(f'unknown algorithm {name!r}; known are {", ".join(ALGORITHMS)}')
    return ALGORITHMS[name]
