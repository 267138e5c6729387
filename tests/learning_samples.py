"""Small configurations, batches, datasets and checkpoints for the tests of learning."""

import numpy as np
from stable_crl_ros.actions import ActionScale
from stable_crl_ros.checkpoint import save_checkpoint
from stable_crl_ros.crl.presets import make_agent, make_config
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.schema import Action, EpisodeMeta, Observation
import torch

SIZE = 16
SMALL = {'image_size': SIZE, 'channels': (4, 8, 8), 'actor_hidden': (32, 32, 32),
         'batch_size': 8, 'steps': 10, 'learning_rate': 1e-3}
SMALL_CRITIC = {'bc_coefficient': 0.05, 'critic_hidden': (32, 32, 32)}
OVERRIDES = {**SMALL, **SMALL_CRITIC, 'augmentation': 'crop', 'actor_dropout': 0.1}
# Well conditioned: a cold start has gradients near 1e-12, where rounding decides.
WARM = {'critic_final_init': 0.0, 'actor_final_init': 0.0}


SMALL_VALUES = {'value_hidden': (32, 32, 32)}
OWN_SETTINGS = {'stable_crl': SMALL_CRITIC, 'gciql': SMALL_VALUES, 'hiql': SMALL_VALUES}


def small_config(algorithm='stable_crl', **changes):
    preset = 'laptop' if algorithm == 'stable_crl' else f'laptop-{algorithm}'
    return make_config(preset, {**SMALL, **OWN_SETTINGS.get(algorithm, {}), **changes})[1]


def small_agent(algorithm='stable_crl', seed=0, **changes):
    return make_agent(algorithm, small_config(algorithm, **changes), seed=seed)


def random_batch(size=8, image_size=SIZE, seed=0):
    rng = np.random.default_rng(seed)

    def images():
        return rng.integers(0, 256, (size, image_size, image_size, 3), dtype=np.uint8)
    goals = images()
    batch = {'observations': images(), 'next_observations': images(), 'actor_goals': goals,
             'critic_goals': goals, 'actions': rng.uniform(-1, 1, (size, 7)).astype(np.float32)}
    return batch | {'value_goals': images(), 'waypoints': images(),
                    'reached': rng.random(size) < 0.4, 'near': rng.random(size) < 0.4}


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


PLACES = 6  # of the dot in `corridor`


def corridor(size=32, seed=0, waypoint_steps=2):
    """
    Make transitions of a dot that wanders: dx of +1 or -1 moves it to the next place, or not at
    the ends. Cloning learns nothing of the way to a goal here; values do.

    :returns: a batch with everything any learner asks for, and the places of what is seen.
    """
    rng = np.random.default_rng(seed)

    def see(places):
        return np.stack([draw_dot((0.5, place / (PLACES - 1))) for place in places])
    walk = rng.integers(0, PLACES, (size, 1)), rng.choice([-1, 1], (size, waypoint_steps))
    places = [walk[0][:, 0]]
    for step in range(waypoint_steps):
        places.append(np.clip(places[-1] + walk[1][:, step], 0, PLACES - 1))
    start, following, waypoint = places[0], places[1], places[-1]
    goals, value_goals = rng.integers(0, PLACES, (2, size))
    value_goals = np.where(rng.random(size) < 0.2, start, value_goals)
    actions = np.zeros((size, 7), np.float32)
    actions[:, 0] = walk[1][:, 0]
    return {'observations': see(start), 'next_observations': see(following),
            'actor_goals': see(goals), 'value_goals': see(value_goals),
            'waypoints': see(waypoint), 'actions': actions, 'reached': value_goals == start,
            'near': np.zeros(size, bool)}, start, goals


def right_directions(agent, size=200, seed=12345):
    """Return the fraction of actions that lead towards a goal elsewhere."""
    batch, start, goals = corridor(size, seed)
    with torch.no_grad():
        means = agent.act(agent.networks, *agent.pixels(agent.load_images(
            batch, ('observations', 'actor_goals'))).chunk(2))[:, 0].numpy()
    away = start != goals
    return float((np.sign(means) == np.sign(goals - start))[away].mean())
