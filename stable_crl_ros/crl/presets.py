"""Named recipes: a place's settings, and what each algorithm changes of its defaults there."""

from collections.abc import Mapping

from stable_crl_ros.actions import ACTION_DIM
from stable_crl_ros.crl.agent import Agent
from stable_crl_ros.crl.config import AgentConfig, ConfigError, current_settings
from stable_crl_ros.crl.gcbc import GCBC, GCBCConfig
from stable_crl_ros.crl.gciql import GCIQL, GCIQLConfig
from stable_crl_ros.crl.hiql import HIQL, HIQLConfig
from stable_crl_ros.crl.stable_crl import StableCRL, StableCRLConfig

ALGORITHMS = {'stable_crl': (StableCRL, StableCRLConfig), 'gcbc': (GCBC, GCBCConfig),
              'gciql': (GCIQL, GCIQLConfig), 'hiql': (HIQL, HIQLConfig)}

# What all algorithms share at a place: images, actor, data, optimiser.
PLACES = {
    'sim': {},  # the authors' simulation: the defaults
    # Drawer tasks on two CPU cores in minutes; a fixed camera needs no augmentation.
    'laptop': {
        'channels': (16, 32, 32), 'actor_hidden': (256,) * 4, 'batch_size': 256, 'steps': 4000,
        'learning_rate': 5e-4, 'discount': 0.95, 'augmentation': 'none',
        # Evenly within 20 s. Of geometric goals seen from the start of 80 steps 2 % lie in the
        # last fifth: on `expert` cloning does two stages in 48 % with them, in 70 % with even
        # ones. Over the rest of 500 steps of `play` most would lie too far to learn from: it opens
        # the drawer in 3 of 34 trials, within 100 steps in 7, with geometric ones in 22, and does
        # two stages in 0, 12 and 6 (docs/results.md).
        'actor_goal': 'soon',
    },
    # The authors' configuration for WidowX and BridgeData V2, on one GPU. It scales actions by the
    # published mean and deviation, and applies them to relabelled motion and binarised grippers:
    # import recordings with `--actions relabelled --gripper binarised`.
    'bridge': {
        'image_size': 128, 'interpolation': 'lanczos3', 'pixel_range': 'symmetric',
        'encoder': 'resnet34', 'activation': 'swish', 'hidden_gain': 1.0,
        'actor_hidden': (256,) * 3, 'actor_norm': 'none', 'actor_dropout': 0.1,
        'actor_final_init': 0.0, 'std': 1.0, 'augmentation': 'jitter',
        'augment_probability': 1.0, 'action_scale': 'bridge', 'actor_goal': 'later',
        'discount': 0.98, 'batch_size': 256, 'steps': 2_000_000, 'warmup_steps': 2000,
        'actor_decay_steps': 2_000_000,
    },
}

# By suffix of the preset's name: the algorithm, what it changes everywhere, and where.
METHODS = {
    '': ('stable_crl', {}, {
        'laptop': {
            'critic_hidden': (256,) * 4, 'critic_loss': 'mc',
            # At the authors' 0.05 these small networks let the actor exploit the critic: of 100
            # drawers 37 % opened to within 10 mm, at 0.8 all (drawer data alone, 4000 steps).
            'bc_coefficient': 0.8,
        },
        'bridge': {
            'critic_hidden': (256,) * 3, 'critic_norm': 'affine', 'critic_skip_last_norm': False,
            'target_update_rate': 0.002, 'bc_coefficient': 0.2, 'augment_critic': True,
        },
    }),
    # At `bridge` BridgeData V2's numbers. Its own cloning and its own implicit Q-learning, but not
    # its contrastive RL, also show their encoder where a pixel lies (`add_spatial_coordinates`);
    # here all methods have the same encoder.
    'gcbc': ('gcbc', {}, {}),
    # OGBench's learner and numbers; at `bridge` the same learner with BridgeData V2's numbers.
    # (Its own bootstraps from a target of V, beyond goals that are reached too; weighs actions by
    # r + discount * V(s') - V(s) in place of Q - V; takes a neighbour's future goals as
    # negatives; shares the values' encoder with the actor; and gives the actor a tenth of goals
    # that the next step reaches.) On the laptop 4000 steps are few for a target that lags by 200,
    # and upon stacked images the values stayed blind to the goal.
    'gciql': ('gciql', {}, {
        'laptop': {'value_hidden': (256,) * 4, 'target_update_rate': 0.05,
                   'goal_input': 'difference'},
        'bridge': {
            'value_hidden': (256,) * 3, 'value_norm': 'none', 'expectile': 0.7, 'critics': 1,
            'policy_loss': 'awr', 'target_update_rate': 0.002, 'value_goal': 'later',
            # 0.1 of the goals are negatives; 0.1 of the others are reached.
            'value_goal_random': 0.1, 'value_goal_reached': 0.09, 'reached_at': 'next',
            'actor_decay_steps': 0,  # its learning rates stay, other than cloning's
        },
    }),
    'hiql': ('hiql', {}, {
        'laptop': {'value_hidden': (256,) * 4, 'target_update_rate': 0.05},
        'bridge': {'value_hidden': (256,) * 3},
    }),
    # The plain algorithm without what stabilises it (GR): all pairs of the batch weigh alike, no
    # layer norm, no cold start, no augmentation, small heads.
    'crl': ('stable_crl', {
        'critic_loss': 'nce', 'critic_hidden': (256, 256), 'representation_size': 64,
        'critic_norm': 'none', 'encoder_norm': False, 'actor_norm': 'none',
        'actor_hidden': (256, 256), 'critic_final_init': 0.0, 'actor_final_init': 0.0,
        'augmentation': 'none', 'batch_size': 256,
    }, {'laptop': {'bc_coefficient': 0.8}, 'bridge': {'bc_coefficient': 0.2}}),
}


def _make_presets() -> dict[str, tuple[str, dict]]:
    presets = {}
    for suffix, (algorithm, everywhere, by_place) in METHODS.items():
        for place, shared in PLACES.items():
            name = f'{place}-{suffix}' if suffix else place
            presets[name] = algorithm, {**shared, **everywhere, **by_place.get(place, {})}
    for place, other in (('laptop', 'td'), ('sim', 'mc')):  # than the place's own critic
        algorithm, settings = presets[place]
        presets[f'{place}-{other}'] = algorithm, {**settings, 'critic_loss': other}
    return presets


PRESETS = _make_presets()


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


def complete_settings(algorithm: str, settings: Mapping) -> dict:
    """
    Give settings that are newer than a run or a checkpoint the defaults it was trained with.

    Those of `config.FORMER` are dropped.

    :param settings: by name, as they were stored.
    :raises ConfigError: for an unknown algorithm.
    """
    return {**find_algorithm(algorithm)[1]().to_dict(), **current_settings(settings)}


def find_algorithm(name: str) -> tuple[type[Agent], type[AgentConfig]]:
    """
    Return an algorithm's agent and configuration classes.

    :raises ConfigError: for an unknown name.
    """
    if name not in ALGORITHMS:
        raise ConfigError(f'unknown algorithm {name!r}; known are {", ".join(ALGORITHMS)}')
    return ALGORITHMS[name]
