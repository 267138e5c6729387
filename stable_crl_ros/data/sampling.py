"""Batches for goal-conditioned learning: transitions and goals drawn from their futures."""

import numpy as np
from stable_crl_ros.data.cache import TrainingCache

ACTOR_GOALS = ('geometric', 'uniform', 'random')
CRITIC_GOALS = ('geometric', 'next')


class SamplingError(ValueError):
    """A sampler asked for what it cannot give."""


def sample_future(t: np.ndarray, ends: np.ndarray, discount: float,
                  rng: np.random.Generator) -> np.ndarray:
    """
    Draw a future frame t + 1 + k of the same episode, p(k) ~ discount ** k.

    The distribution is truncated at the episode's end and renormalised.

    :param t: int, shape (B,), frame indices.
    :param ends: int, shape (B,), index of the last frame of each episode, inclusive, > t.
    :param discount: in (0, 1).
    :returns: int64, shape (B,), frame indices in [t + 1, ends].
    :raises SamplingError: for a discount outside (0, 1) or a frame without a future.
    """
    if not 0.0 < discount < 1.0:
        raise SamplingError(f'discount must be inside (0, 1), got {discount}')
    choices = _choices(t, ends)
    log_discount = np.log(discount)
    # Inverse of the distribution function (1 - discount ** (k + 1)) / (1 - discount ** choices).
    total = -np.expm1(choices * log_discount)
    k = np.floor(np.log1p(-rng.random(len(choices)) * total) / log_discount).astype(np.int64)
    return t + 1 + np.minimum(k, choices - 1)  # rounding may reach `choices`


def sample_uniform_future(t: np.ndarray, ends: np.ndarray,
                          rng: np.random.Generator) -> np.ndarray:
    """
    Draw a future frame of the same episode, all equally likely.

    :param t: int, shape (B,), frame indices; `ends` as for `sample_future`.
    :returns: int64, shape (B,), frame indices in [t + 1, ends].
    :raises SamplingError: for a frame without a future.
    """
    return t + 1 + rng.integers(0, _choices(t, ends))


def sample_random(frames: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """
    Draw the outcome of any transition.

    :param frames: int, shape (N,), frame indices of the transitions to draw from.
    :returns: int64, shape (size,), frame indices.
    """
    return frames[rng.integers(0, len(frames), size)] + 1


def _choices(t: np.ndarray, ends: np.ndarray) -> np.ndarray:
    choices = np.asarray(ends) - np.asarray(t)
    if choices.size and choices.min() < 1:
        raise SamplingError(f'frame {np.asarray(t)[choices.argmin()]} is the last of its episode '
                            f'or beyond it: it has no future to draw from')
    return choices


class BatchSampler:
    """
    Endless batches of transitions, uniform with replacement; the same seed, the same batches.

    :param cache: what to draw from.
    :param batch_size: transitions per batch.
    :param seed: of the sampler's own random stream.
    :param discount: of the geometric goals, in (0, 1).
    :param actor_goal: 'geometric' or 'uniform' future, or 'random' frames of any episode.
    :param critic_goal: 'geometric' future, or the 'next' observation.
    :raises SamplingError: for an empty cache or a value out of range.
    """

    def __init__(self, cache: TrainingCache, batch_size: int = 256, seed: int = 0,
                 discount: float = 0.99, actor_goal: str = 'geometric',
                 critic_goal: str = 'geometric') -> None:
        for name, value, known in (('actor_goal', actor_goal, ACTOR_GOALS),
                                   ('critic_goal', critic_goal, CRITIC_GOALS)):
            if value not in known:
                raise SamplingError(f'unknown {name} {value!r}; choose one of {list(known)}')
        if batch_size < 1 or not len(cache):
            raise SamplingError(f'cannot draw {batch_size} of {len(cache)} transitions')
        if not 0.0 < discount < 1.0:
            raise SamplingError(f'discount must be inside (0, 1), got {discount}')
        self.cache = cache
        self.batch_size = batch_size
        self.discount = discount
        self.actor_goal = actor_goal
        self.critic_goal = critic_goal
        self._rng = np.random.default_rng(seed)

    def sample_indices(self) -> dict[str, np.ndarray]:
        """
        Draw a batch as indices.

        One geometric draw serves actor and critic where both ask for it.

        :returns: 'transitions' into the cache's transitions; 'frames', 'actor_goals' and
            'critic_goals' into its frames; int64, shape (batch_size,).
        """
        cache, rng = self.cache, self._rng
        chosen = rng.integers(0, len(cache), self.batch_size)
        t, ends = cache.frames[chosen], cache.ends[chosen]
        drawn = {'next': t + 1}
        if 'geometric' in (self.actor_goal, self.critic_goal):
            drawn['geometric'] = sample_future(t, ends, self.discount, rng)
        if self.actor_goal == 'uniform':
            drawn['uniform'] = sample_uniform_future(t, ends, rng)
        elif self.actor_goal == 'random':
            drawn['random'] = sample_random(cache.frames, self.batch_size, rng)
        return {'transitions': chosen, 'frames': t, 'actor_goals': drawn[self.actor_goal],
                'critic_goals': drawn[self.critic_goal]}

    def sample(self) -> dict[str, np.ndarray]:
        """
        Draw a batch.

        :returns: 'observations', 'next_observations', 'actor_goals', 'critic_goals': uint8 RGB,
            shape (B, height, width, 3), contiguous; 'actions': float32, shape (B, 7), physical.
            Goals that are the same frames are the same array.
        """
        indices = self.sample_indices()
        groups = {'observations': indices['frames'], 'next_observations': indices['frames'] + 1,
                  'actor_goals': indices['actor_goals']}
        same = {'next': 'next_observations', self.actor_goal: 'actor_goals'}
        if self.critic_goal not in same:
            groups['critic_goals'] = indices['critic_goals']
        # One large allocation gets huge pages; several of 2 MB cost more in page faults than in
        # copying (3.1 against 0.46 ms for three times 256 frames of 48x48).
        images = self.cache.images(np.concatenate(list(groups.values())))
        batch = dict(zip(groups, np.split(images, len(groups)), strict=True))
        if self.critic_goal in same:
            batch['critic_goals'] = batch[same[self.critic_goal]]
        batch['actions'] = self.cache.actions[indices['transitions']]
        return batch

    def state_dict(self) -> dict:
        """Return the state of the random stream as plain values."""
        return {'rng': self._rng.bit_generator.state}

    def load_state_dict(self, state: dict) -> None:
        """Continue exactly where `state_dict` was taken."""
        self._rng.bit_generator.state = state['rng']
