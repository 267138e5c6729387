"""Batches for goal-conditioned learning: transitions and goals drawn from their futures."""

from collections.abc import Sequence
from dataclasses import dataclass
import zlib

import numpy as np
from stable_crl_ros.data.cache import TrainingCache

FUTURES = ('geometric', 'uniform', 'later')
ACTOR_GOALS = (*FUTURES, 'soon')
CRITIC_GOALS = ('geometric', 'next')
REACHED = ('current', 'next')
IMAGES = ('observations', 'next_observations', 'actor_goals', 'critic_goals', 'value_goals',
          'waypoints')
MARKS = ('reached', 'near')


class SamplingError(ValueError):
    """A sampler asked for what it cannot give."""


@dataclass(frozen=True)
class GoalMixture:
    """
    Goals for learning values: some reached, some of any episode, the rest from the future.

    :param reached: probability of a goal that is reached already.
    :param random: probability of the outcome of any transition.
    :param future: 'geometric', 'uniform' or 'later', how the rest is drawn; see `sample_future`,
        where OGBench takes an episode's last frame for all that would lie beyond it.
    :param at: which frame reaches its own goal: the 'current' one (OGBench) or the 'next'
        (BridgeData V2's code).
    :raises SamplingError: for a value out of range.
    """

    reached: float = 0.2
    random: float = 0.3
    future: str = 'geometric'
    at: str = 'current'

    def __post_init__(self) -> None:
        """Refuse shares that are none, and unknown names."""
        if min(self.reached, self.random) < 0.0 or not self.reached + self.random <= 1.0:
            raise SamplingError(f'shares of goals must be >= 0 and add up to 1 at most; got '
                                f'{self.reached} reached and {self.random} random')
        _check_choice('future', self.future, FUTURES)
        _check_choice('at', self.at, REACHED)


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


def sample_later_future(t: np.ndarray, ends: np.ndarray,
                        rng: np.random.Generator) -> np.ndarray:
    """
    Draw a future frame beyond the next, all equally likely; the next where it is the last.

    BridgeData V2's `uniform` goal relabelling.

    :param t: int, shape (B,), frame indices; `ends` as for `sample_future`.
    :returns: int64, shape (B,), frame indices in [min(t + 2, ends), ends].
    :raises SamplingError: for a frame without a future.
    """
    others = np.maximum(_choices(t, ends) - 1, 1)
    return np.minimum(t + 2, ends) + rng.integers(0, others)


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


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise SamplingError(f'unknown {name} {value!r}; choose one of {list(known)}')


class BatchSampler:
    """
    Endless batches of transitions, uniform with replacement; the same seed, the same batches.

    `images` names what a batch holds beside the actions: 'observations', 'next_observations',
    'actor_goals', 'critic_goals', 'value_goals' and 'waypoints' (the frame `waypoint_steps`
    later, or the episode's last). Nothing else is drawn or read.

    :param cache: what to draw from.
    :param batch_size: transitions per batch.
    :param seed: of the sampler's own random stream.
    :param discount: of the geometric goals, in (0, 1).
    :param actor_goal: 'geometric', 'uniform' or 'later' future, or 'soon' for a uniform one within
        `actor_goal_horizon` steps (>= 1).
    :param actor_goal_random: probability, 0..1, that the actor's goal is instead the outcome of
        any transition of any episode.
    :param critic_goal: 'geometric' future, or the 'next' observation.
    :param value_goal: where 'value_goals' come from.
    :param waypoint_steps: >= 1.
    :raises SamplingError: for an empty cache or a value out of range.
    """

    def __init__(self, cache: TrainingCache, batch_size: int = 256, seed: int = 0,
                 discount: float = 0.99, actor_goal: str = 'geometric',
                 critic_goal: str = 'geometric', images: Sequence[str] = IMAGES[:4],
                 value_goal: GoalMixture = GoalMixture(), waypoint_steps: int = 1,
                 actor_goal_horizon: int = 100, actor_goal_random: float = 0.0) -> None:
        _check_choice('actor_goal', actor_goal, ACTOR_GOALS)
        _check_choice('critic_goal', critic_goal, CRITIC_GOALS)
        for name in images:
            _check_choice('images', name, IMAGES)
        if batch_size < 1 or not len(cache):
            raise SamplingError(f'cannot draw {batch_size} of {len(cache)} transitions')
        if not 0.0 < discount < 1.0:
            raise SamplingError(f'discount must be inside (0, 1), got {discount}')
        if waypoint_steps < 1:
            raise SamplingError(f'waypoint_steps must be >= 1, got {waypoint_steps}')
        if actor_goal_horizon < 1:
            raise SamplingError(f'actor_goal_horizon must be >= 1, got {actor_goal_horizon}')
        if not 0.0 <= actor_goal_random <= 1.0:
            raise SamplingError(f'actor_goal_random must be 0 .. 1, got {actor_goal_random}')
        self.cache = cache
        self.batch_size = batch_size
        self.discount = discount
        self.actor_goal, self.actor_goal_horizon = actor_goal, actor_goal_horizon
        self.actor_goal_random = actor_goal_random
        self.critic_goal = critic_goal
        self.images = tuple(images)
        self.value_goal = value_goal
        self.waypoint_steps = waypoint_steps
        self.rows = slice(None)  # of every batch drawn: those that `sample` reads
        self._rng = np.random.default_rng(seed)

    def sample_indices(self) -> dict[str, np.ndarray]:
        """
        Draw a batch as indices.

        One geometric draw serves actor and critic where both ask for it: equal frames are the
        same array, unless some of the actor's goals are random.

        :returns: 'transitions' into the cache's transitions; for every one of `images`, indices
            of its frames; int64, shape (batch_size,). With 'value_goals' also 'reached', with
            'waypoints' and 'actor_goals' also 'near': the actor's goal comes before the
            waypoint, and is the waypoint to it; bool, shape (batch_size,).
        """
        cache = self.cache
        chosen = self._rng.integers(0, len(cache), self.batch_size)
        t, ends = cache.frames[chosen], cache.ends[chosen]
        drawn = {'observations': t, 'next_observations': t + 1}
        drawn |= self._draw_goals(t, ends, drawn['next_observations'])
        if 'value_goals' in self.images:
            drawn['value_goals'] = self._draw_value_goals(t, ends)
            at = t if self.value_goal.at == 'current' else t + 1
            drawn['reached'] = drawn['value_goals'] == at
        if 'waypoints' in self.images:
            drawn['waypoints'] = np.minimum(t + self.waypoint_steps, ends)
            if 'actor_goals' in self.images:
                goals = drawn['actor_goals']  # a random one is hardly ever of the near future
                drawn['near'] = (goals > t) & (goals < drawn['waypoints'])
        wanted = [name for name in (*self.images, *MARKS) if name in drawn]
        return {'transitions': chosen} | {name: drawn[name] for name in wanted}

    def _draw_goals(self, t: np.ndarray, ends: np.ndarray,
                    following: np.ndarray) -> dict[str, np.ndarray]:
        kinds = {}
        if 'actor_goals' in self.images:
            kinds['actor_goals'] = self.actor_goal
        if 'critic_goals' in self.images:
            kinds['critic_goals'] = self.critic_goal
        drawn = {kind: following if kind == 'next' else self._draw(kind, t, ends)
                 for kind in dict.fromkeys(kinds.values())}
        goals = {name: drawn[kind] for name, kind in kinds.items()}
        if self.actor_goal_random and 'actor_goals' in goals:
            goals['actor_goals'] = self._mix_random(goals['actor_goals'])
        return goals

    def _mix_random(self, goals: np.ndarray) -> np.ndarray:
        chosen = self._rng.random(len(goals)) < self.actor_goal_random
        return np.where(chosen, sample_random(self.cache.frames, len(goals), self._rng), goals)

    def _draw(self, kind: str, t: np.ndarray, ends: np.ndarray) -> np.ndarray:
        if kind == 'geometric':
            return sample_future(t, ends, self.discount, self._rng)
        if kind == 'uniform':
            return sample_uniform_future(t, ends, self._rng)
        if kind == 'later':
            return sample_later_future(t, ends, self._rng)
        if kind == 'soon':
            return sample_uniform_future(t, np.minimum(ends, t + self.actor_goal_horizon),
                                         self._rng)
        return sample_random(self.cache.frames, len(t), self._rng)

    def _draw_value_goals(self, t: np.ndarray, ends: np.ndarray) -> np.ndarray:
        mixture = self.value_goal
        share = self._rng.random(len(t))
        future = self._draw(mixture.future, t, ends)
        other = self._draw('random', t, ends)
        goals = np.where(share < mixture.reached + mixture.random, other, future)
        return np.where(share < mixture.reached, t if mixture.at == 'current' else t + 1, goals)

    def sample(self) -> dict[str, np.ndarray]:
        """
        Draw a batch.

        :returns: `images`, each uint8 RGB, shape (B, height, width, 3), contiguous, those of
            equal indices the same array; 'actions': float32, shape (B, 7), physical; 'reached'
            and 'near' as `sample_indices` gives them.
        """
        indices = self._own(self.sample_indices())
        groups = {id(indices[name]): indices[name] for name in self.images}
        # One large allocation gets huge pages; several of 2 MB cost more in page faults than in
        # copying (3.1 against 0.46 ms for three times 256 frames of 48x48).
        images = self.cache.images(np.concatenate(list(groups.values())))
        gathered = dict(zip(groups, np.split(images, len(groups)), strict=True))
        batch = {name: gathered[id(indices[name])] for name in self.images}
        batch['actions'] = self.cache.actions[indices['transitions']]
        return batch | {name: indices[name] for name in MARKS if name in indices}

    def _own(self, indices: dict) -> dict:
        """Take `rows` of indices; what was the same array stays the same."""
        parts = {id(drawn): drawn[self.rows] for drawn in indices.values()}
        return {name: parts[id(drawn)] for name, drawn in indices.items()}

    def state_dict(self) -> dict:
        """Return the state of the random stream as plain values."""
        return {'rng': self._rng.bit_generator.state}

    def load_state_dict(self, state: dict) -> None:
        """Continue exactly where `state_dict` was taken; a stream of a GPU's starts anew."""
        if 'rng' in state:
            self._rng.bit_generator.state = state['rng']
        else:
            self._rng = np.random.default_rng(zlib.crc32(repr(state).encode()))
