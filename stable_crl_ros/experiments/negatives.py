"""Hard negatives: which wrong goals the critic's gradient pushes on, by how alike they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
import numpy as np
from stable_crl_ros.crl.losses import importance_weights
from stable_crl_ros.data.sampling import sample_future
from stable_crl_ros.experiments.demonstrations import Demonstration
from stable_crl_ros.experiments.estimates import (
    mean_estimate,
    ratio_estimate,
    show,
    spearman,
)
from stable_crl_ros.experiments.figures import COLOURS, drawing, MARKERS
from stable_crl_ros.experiments.learned import Learned

BATCH = 256
BATCHES = 8
BOOTSTRAPPED = 8  # wrong goals per anchor with the TD critic: each costs a pass of the actor
OBJECT_EDGES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.13)  # m
FEWEST = 3  # episodes in a bin that is drawn
ARM_EDGES = (0.0, 0.01, 0.02, 0.04, 0.06, 0.09, 0.13, 0.25)  # m


@dataclass
class Negatives:
    """
    All wrong goals of some batches; N anchors and G goals per anchor, its own one left out.

    :param weights: sigmoid of the logit, the gradient's size if the goal is a negative; mean
        over the critics; (N, G).
    :param importance: weight of the bootstrapped term, (N, G); None for the Monte-Carlo critic.
    :param net: the gradient of the whole negative term, (N, G): `weights` again for the
        Monte-Carlo critic, less what is bootstrapped for the other.
    :param objects: m between the wrong and the right goal's objects, (N, G); `arms` of the tool
        points.
    :param same: whether the wrong goal comes from the anchor's own trajectory, (N, G).
    :param episode: the anchor's, (N,).
    """

    weights: np.ndarray
    importance: np.ndarray | None
    net: np.ndarray
    objects: np.ndarray
    arms: np.ndarray
    same: np.ndarray
    episode: np.ndarray


@dataclass(frozen=True)
class Frames:
    """All transitions of some demonstrations and the frames they lead to, one after the other."""

    images: np.ndarray
    objects: np.ndarray
    tool: np.ndarray
    actions: np.ndarray
    frames: np.ndarray  # of each transition, (M,)
    ends: np.ndarray  # last frame of each transition's episode, (M,)
    episode: np.ndarray  # of each transition, (M,)

    @classmethod
    def of(cls, demonstrations: Sequence[Demonstration], spec: object) -> 'Frames':
        """Lay demonstrations out."""
        lengths = np.array([len(item.objects) for item in demonstrations])
        starts = np.cumsum(lengths) - lengths
        return cls(
            np.concatenate([item.images[spec] for item in demonstrations]),
            np.concatenate([item.objects for item in demonstrations]),
            np.concatenate([item.tool for item in demonstrations]),
            np.concatenate([item.actions for item in demonstrations]),
            np.concatenate([start + np.arange(length - 1)
                            for start, length in zip(starts, lengths, strict=True)]),
            np.repeat(starts + lengths - 1, lengths - 1),
            np.repeat(np.arange(len(lengths)), lengths - 1))


def weigh_negatives(one: Learned, frames: Frames, seed: int) -> Negatives:
    """Score batches as in training, with goals as that critic's loss takes them."""
    rng = np.random.default_rng(seed)
    size = min(BATCH, len(frames.frames))
    parts = []
    for _ in range(BATCHES):
        chosen = rng.choice(len(frames.frames), size, replace=False)
        now, ends = frames.frames[chosen], frames.ends[chosen]
        td = one.config.critic_loss == 'td'
        goals = now + 1 if td else sample_future(now, ends, one.config.discount, rng)
        parts.append(_weigh(one, frames, chosen, now, goals, td))
    return Negatives(*(None if values[0] is None else np.concatenate(values)
                       for values in zip(*parts, strict=True)))


def _weigh(one: Learned, frames: Frames, chosen: np.ndarray, now: np.ndarray, goals: np.ndarray,
           td: bool) -> tuple:
    size = len(chosen)
    others = min(BOOTSTRAPPED, size - 1) if td else size - 1
    wrong = (np.arange(size)[:, None] + 1 + np.arange(others)) % size  # (N, G)
    rows = np.arange(size)[:, None]
    logits = one.all_logits(frames.images[now], frames.actions[chosen], frames.images[goals])
    weights = _sigmoid(logits[rows, wrong])  # (N, G, E)
    importance, net = None, weights.mean(-1)
    if td:
        # Checkpoints hold no target network: the critic itself, which it trails, stands in.
        importance = np.stack([importance_weights(
            one.policy_logits(frames.images[now + 1], frames.images[goals[column]]),
            one.config.importance_limit).numpy() for column in wrong.T], 1)
        net = (weights - one.config.discount * importance[..., None] * (1.0 - weights)).mean(-1)
    distances = [np.linalg.norm(place[goals[wrong]] - place[goals][:, None], axis=-1)
                 for place in (frames.objects, frames.tool)]
    episode = frames.episode[chosen]
    return (weights.mean(-1), importance, net, *distances, episode[wrong] == episode[:, None],
            episode)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * logits))


def binned(weights: np.ndarray, chosen: np.ndarray, distances: np.ndarray,
           edges: Sequence[float], episode: np.ndarray, seed: int) -> list[dict]:
    """
    Average weights by distance.

    :param chosen: which negatives count, (N, G), as the other matrices.
    :param edges: of the bins, m; what lies beyond the last counts in the last bin.
    :returns: per bin: from_m, to_m, value, low, high, count of episodes, negatives.
    """
    number = np.clip(np.searchsorted(edges, distances, side='right') - 1, 0, len(edges) - 2)
    return [{'from_m': low, 'to_m': high,
             **clustered_mean(weights, chosen & (number == index), episode, seed)}
            for index, (low, high) in enumerate(zip(edges, edges[1:], strict=False))]


def clustered_mean(weights: np.ndarray, chosen: np.ndarray, episode: np.ndarray,
                   seed: int) -> dict:
    """Describe the mean of chosen weights (N, G); the anchors' episodes are resampled."""
    sums, counts = (np.bincount(episode, (matrix * chosen).sum(1))
                    for matrix in (weights, np.ones_like(weights)))
    there = counts > 0
    if not there.any():
        return {'value': None, 'low': None, 'high': None, 'count': 0, 'negatives': 0}
    return {**ratio_estimate(sums[there], counts[there], seed), 'negatives': int(counts.sum())}


def describe_negatives(found: Negatives, seed: int) -> dict:
    """Say on which negatives the gradient dwells."""
    every = np.ones_like(found.same)
    measures = {'sigmoid': found.weights, 'net_gradient': found.net}
    if found.importance is not None:
        measures['importance'] = found.importance
    return {'anchors': len(found.weights), 'negatives': int(found.weights.size), **{
        name: {'same_trajectory': clustered_mean(weights, found.same, found.episode, seed),
               'other_trajectory': clustered_mean(weights, ~found.same, found.episode, seed),
               'by_object': binned(weights, every, found.objects, OBJECT_EDGES, found.episode,
                                   seed),
               'by_arm': binned(weights, every, found.arms, ARM_EDGES, found.episode, seed),
               'spearman_object': _correlation(weights, found.objects, found.episode, seed),
               'spearman_arm': _correlation(weights, found.arms, found.episode, seed)}
        for name, weights in measures.items()}}


def _correlation(weights: np.ndarray, distances: np.ndarray, episode: np.ndarray,
                 seed: int) -> dict:
    """Average over episodes the rank correlation of weight and distance within an anchor."""
    each = np.array([spearman(a, b) for a, b in zip(weights, distances, strict=True)])
    return mean_estimate(np.array([each[episode == one].mean() for one in np.unique(episode)]),
                         seed)


def weigh(learned: Sequence[Learned], demonstrations: Sequence[Demonstration], out: Path,
          seed: int) -> tuple[dict, list[str]]:
    """
    Draw and describe the weights of negatives.

    :param learned: with a contrastive critic each.
    :returns: numbers, and lines of Markdown.
    """
    found = {one.label: weigh_negatives(one, Frames.of(demonstrations, one.image_spec), seed)
             for one in learned}
    numbers = {'seed': seed, 'batch': BATCH, 'batches': BATCHES,
               'episodes': len(demonstrations), 'checkpoints': {
                   one.label: {'critic_loss': one.config.critic_loss,
                               **describe_negatives(found[one.label], seed)}
                   for one in learned}}
    _draw(out / 'negatives.png', found, seed)
    return numbers, _table(numbers)


def _table(numbers: dict) -> list[str]:
    lines = ['| checkpoint | critic | negatives | weight, same trajectory | weight, another '
             '| rank correlation with object distance | with arm distance |',
             '| --- | --- | --- | --- | --- | --- | --- |']
    for name, one in numbers['checkpoints'].items():
        cells = [show(one['sigmoid'][key], '{:.3f}'.format)
                 for key in ('same_trajectory', 'other_trajectory')]
        cells += [show(one['sigmoid'][key]) for key in ('spearman_object', 'spearman_arm')]
        lines.append(f'| {" | ".join([name, one["critic_loss"], str(one["negatives"]), *cells])} '
                     '|')
    return lines


def _draw(path: Path, found: dict[str, Negatives], seed: int) -> None:
    with drawing(path, 1, 2, 2.8, sharey=True) as (figure, axes):
        for (name, one), colour, marker in zip(found.items(), COLOURS, MARKERS, strict=False):
            for axis, distances, edges in zip(axes[0], (one.objects, one.arms),
                                              (OBJECT_EDGES, ARM_EDGES), strict=True):
                for chosen, kind, line in ((~one.same, 'another trajectory', '-'),
                                           (one.same, 'same trajectory', ':')):
                    bins = binned(one.weights, chosen, distances, edges, one.episode, seed)
                    _line(axis, bins, label=f'{name}, {kind}', color=colour, marker=marker,
                          linestyle=line, markerfacecolor='white' if line == ':' else colour)
        for axis, what in zip(axes[0], ('object', 'tool point'), strict=True):
            axis.set_xlabel(f'distance of the {what} in the wrong goal from the right goal (cm)')
            axis.set_ylim(bottom=0)
        axes[0, 0].set_title('By the object')
        axes[0, 1].set_title('By the arm')
        axes[0, 0].set_ylabel('gradient weight of the negative, σ(f)')
        axes[0, 1].legend(loc='upper right')


def _line(axes: Axes, bins: list[dict], **style: object) -> None:
    shown = [one for one in bins if one['count'] >= FEWEST]
    if shown:
        middle = [50 * (one['from_m'] + one['to_m']) for one in shown]  # cm
        value, low, high = (np.array([one[key] for one in shown])
                            for key in ('value', 'low', 'high'))
        axes.errorbar(middle, value, [value - low, high - value], capsize=0, elinewidth=0.8,
                      **style)
