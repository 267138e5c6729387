"""Small configurations, batches, datasets and checkpoints for the tests of learning."""

import numpy as np
from stable_crl_ros.actions import ActionScale
from stable_crl_ros.checkpoint import save_checkpoint
from stable_crl_ros.crl.presets import make_agent, make_config
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.schema import Action, EpisodeMeta, Observation

SIZE = 16
SMALL = {'image_size': SIZE, 'channels': (4, 8, 8), 'actor_hidden': (32, 32, 32),
         'batch_size': 8, 'steps': 10, 'learning_rate': 1e-3}
SMALL_CRITIC = {'bc_coefficient': 0.05, 'critic_hidden': (32, 32, 32)}
# Well conditioned: a cold start has gradients near 1e-12, where rounding decides.
WARM = {'critic_final_init': 0.0, 'actor_final_init': 0.0}


def small_config(algorithm='stable_crl', **changes):
    preset = 'laptop' if algorithm == 'stable_crl' else 'laptop-gcbc'
    critic = SMALL_CRITIC if algorithm == 'stable_crl' else {}
    return make_config(preset, {**SMALL, **critic, **changes})[1]


def small_agent(algorithm='stable_crl', seed=0, **changes):
    return make_agent(algorithm, small_config(algorithm, **changes), seed=seed)


def random_batch(size=8, image_size=SIZE, seed=0):
    rng = np.random.default_rng(seed)

    def images():
        return rng.integers(0, 256, (size, image_size, image_size, 3), dtype=np.uint8)
    goals = images()
    return {'observations': images(), 'next_observations': images(), 'actor_goals': goals,
            'critic_goals': goals, 'actions': rng.uniform(-1, 1, (size, 7)).astype(np.float32)}


def draw_dot(position, size=SIZE):
    """Picture a bright square; position in 0..1, rows then columns."""
    image = np.zeros((size, size, 3), np.uint8)
    row, column = (np.asarray(position) * (size - 5)).astype(int)
    image[row:row + 5, column:column + 5] = (255, 128, 0)
    return image


def write_dots(path, episodes=6, steps=12, seed=0, control_rate=5.0):
    """Record episodes in which dx and dy move a dot to a random place."""
    rng = np.random.default_rng(seed)
    dataset = Dataset(path, create=True)
    for _ in range(episodes):
        writer = EpisodeWriter(dataset, EpisodeMeta(task='dot', control_rate=control_rate))
        dot, goal = rng.uniform(0, 1, 2), rng.uniform(0, 1, 2)
        for _ in range(steps):
            move = np.clip(goal - dot, -0.2, 0.2)
            action = np.concatenate([move / 4, np.zeros(4), [1.0]])
            writer.add_step(Observation({'camera': draw_dot(dot)}), Action(action))
            dot = dot + move
        writer.finish(Observation({'camera': draw_dot(dot)}), True)
    return dataset


def metadata(config, algorithm='stable_crl', **changes):
    return {'algorithm': algorithm, 'config': config.to_dict(),
            'image_spec': config.image_spec.to_dict(),
            'action_scale': ActionScale.from_bounds().to_dict(), 'dataset_fingerprint': 'none',
            'step': 0, 'metrics': {}, **changes}


def write_checkpoint(path, algorithm='stable_crl', agent=None, **changes):
    """Save a fresh agent; returns it."""
    agent = agent or small_agent(algorithm)
    save_checkpoint(path, agent.tensors(), metadata(agent.config, algorithm, **changes))
    return agent


def lively(seed, algorithm='stable_crl'):
    # A cold initialisation answers every image with the same action.
    return small_agent(algorithm, seed, actor_final_init=0.3)
