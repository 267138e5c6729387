"""Hard negatives: which wrong goals the critic's gradient pushes on, by how alike they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
import numpy as np
from stable_crl_ros.crl.losses import importance_weights
from stable_crl_ros.data.sampling import sample_future
from stable_crl_ros.experiments.demonstrations import Demonstration, OBJECTS
from stable_crl_ros.experiments.estimates import (
    mean_estimate,
    ratio_estimate,
    show,
    spearman,
)
from stable_crl_ros.experiments.learned import Learned
from stable_crl_ros.figures import COLOURS, drawing, MARKERS

BATCH = 256
BATCHES = 8
BOOTSTRAPPED = 8  # wrong goals per anchor with the TD critic: each costs a pass of the actor
EDGES = {  # m, of the bins of distance between the wrong goal and the right one
    'object': (0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.13),
    'arm': (0.0, 0.01, 0.02, 0.04, 0.06, 0.09, 0.13, 0.25),
    'bystander': (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.15)}
FEWEST = 3  # episodes in a bin that is drawn
MOVED = 0.001  # m; a bystander that never moves further tells nothing


@dataclass
class Negatives:
    """
    All wrong goals of some batches; N anchors and G goals per anchor, its own one left out.

    :param weights: sigmoid of the logit, the gradient's size if the goal is a negative; mean
        over the critics; (N, G).
    :param importance: weight of the bootstrapped term, (N, G); None for the Monte-Carlo critic.
    :param net: the gradient of the whole negative term, (N, G): `weights` again for the
        Monte-Carlo critic, less what is bootstrapped for the other.
    :param distances: m between the wrong and the right goal, each (N, G): of the 'object' that
        counts, of the 'arm' (its tool point) and, where there is one, of the 'bystander'.
    :param same: whether the wrong goal comes from the anchor's own trajectory, (N, G).
    :param episode: the anchor's, (N,).
    """

    weights: np.ndarray
    importance: np.ndarray | None
    net: np.ndarray
    distances: dict[str, np.ndarray]
    same: np.ndarray
    episode: np.ndarray


@dataclass(frozen=True)
class Frames:
    """All transitions of some demonstrations and the frames they lead to, one after the other."""

    images: np.ndarray
    places: dict[str, np.ndarray]  # m, of each frame, as in `Negatives.distances`
    actions: np.ndarray
    frames: np.ndarray  # of each transition, (M,)
    ends: np.ndarray  # last frame of each transition's episode, (M,)
    episode: np.ndarray  # of each transition, (M,)

    @classmethod
    def of(cls, demonstrations: Sequence[Demonstration], spec: object) -> 'Frames':
        """Lay demonstrations out."""
        lengths = np.array([len(item.objects) for item in demonstrations])
        starts = np.cumsum(lengths) - lengths
        places = {name: np.concatenate([getattr(item, kind) for item in demonstrations])
                  for name, kind in (('object', 'objects'), ('arm', 'tool'),
                                     ('bystander', 'bystanders'))}
        return cls(
            np.concatenate([item.images[spec] for item in demonstrations]),
            {name: place for name, place in places.items()
             if name != 'bystander' or (place.shape[1] and np.ptp(place, axis=0).max() > MOVED)},
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
    weights, importance, net, distances, same, episode = zip(*parts, strict=True)
    return Negatives(
        np.concatenate(weights), np.concatenate(importance) if importance[0] is not None else None,
        np.concatenate(net), {name: np.concatenate([one[name] for one in distances])
                              for name in frames.places},
        np.concatenate(same), np.concatenate(episode))


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
    distances = {name: np.linalg.norm(place[goals[wrong]] - place[goals][:, None], axis=-1)
                 for name, place in frames.places.items()}
    episode = frames.episode[chosen]
    same = episode[wrong] == episode[:, None]
    return weights.mean(-1), importance, net, distances, same, episode


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
    described = {'anchors': len(found.weights), 'negatives': int(found.weights.size)}
    for name, weights in measures.items():
        described[name] = {
            'same_trajectory': clustered_mean(weights, found.same, found.episode, seed),
            'other_trajectory': clustered_mean(weights, ~found.same, found.episode, seed)}
        for place, distances in found.distances.items():
            described[name] |= {
                f'by_{place}': binned(weights, every, distances, EDGES[place], found.episode,
                                      seed),
                f'spearman_{place}': _correlation(weights, distances, found.episode, seed)}
    return described


def _correlation(weights: np.ndarray, distances: np.ndarray, episode: np.ndarray,
                 seed: int) -> dict:
    """Average over episodes the rank correlation of weight and distance within an anchor."""
    each = np.array([spearman(a, b) for a, b in zip(weights, distances, strict=True)])
    return mean_estimate(np.array([each[episode == one].mean() for one in np.unique(episode)]),
                         seed)


def weigh(learned: Sequence[Learned], demonstrations: Sequence[Demonstration],
          objects: Sequence[str], out: Path, seed: int) -> tuple[dict, list[str]]:
    """
    Draw and describe the weights of negatives.

    :param learned: with a contrastive critic each.
    :param objects: names of what counts in the task.
    :returns: numbers, and lines of Markdown.
    """
    found = {one.label: weigh_negatives(one, Frames.of(demonstrations, one.image_spec), seed)
             for one in learned}
    numbers = {'seed': seed, 'batch': BATCH, 'batches': BATCHES,
               'episodes': len(demonstrations), 'checkpoints': {
                   one.label: {'critic_loss': one.config.critic_loss,
                               **describe_negatives(found[one.label], seed)}
                   for one in learned}}
    others = [name for name in OBJECTS if name not in objects]
    titles = {'object': f'By the {" and ".join(objects)}', 'arm': 'By the arm',
              'bystander': f'By the {" and ".join(others)}, a bystander'}
    _draw(out / 'negatives.png', found, titles, seed)
    return numbers, _table(numbers)


def _table(numbers: dict) -> list[str]:
    lines = ['| checkpoint | critic | negatives | weight, same trajectory | weight, another '
             '| rank correlation with object distance | with arm distance '
             '| with bystander distance |', '| --- | --- | --- | --- | --- | --- | --- | --- |']
    for name, one in numbers['checkpoints'].items():
        cells = [show(one['sigmoid'][key], '{:.3f}'.format)
                 for key in ('same_trajectory', 'other_trajectory')]
        cells += [show(one['sigmoid'][f'spearman_{place}'])
                  if f'spearman_{place}' in one['sigmoid'] else 'none' for place in EDGES]
        lines.append(f'| {" | ".join([name, one["critic_loss"], str(one["negatives"]), *cells])} '
                     '|')
    return lines


def _draw(path: Path, found: dict[str, Negatives], titles: dict[str, str], seed: int) -> None:
    bootstrapped = {name: one for name, one in found.items() if one.importance is not None}
    rows = [(found, 'weights', 'gradient weight σ(f)')]
    if bootstrapped:
        rows.append((bootstrapped, 'importance', 'importance weight'))
    with drawing(path, 0.3 + 2.4 * len(rows)) as figure:
        places = next(iter(found.values())).distances
        axes = figure.subplots(len(rows), len(places), squeeze=False, sharey='row')
        for row, (shown, measure, label) in zip(axes, rows, strict=True):
            for axis, place in zip(row, places, strict=True):
                _draw_weights(axis, shown, measure, place, seed)
            row[0].set_ylabel(label)
            row[0].set_ylim(0, 1 if measure == 'weights' else None)  # shared along the row
        for axis, place in zip(axes[0], places, strict=True):
            axis.set_title(titles[place])
        for axis in axes[-1]:
            axis.set_xlabel('from the right goal (cm)')
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc='outside lower center',
                      ncols=2 if len(found) == 1 else 3)


def _draw_weights(axes: Axes, found: dict[str, Negatives], measure: str, place: str,
                  seed: int) -> None:
    styles = zip(COLOURS, MARKERS, strict=True)
    for (name, one), (colour, marker) in zip(found.items(), styles, strict=False):
        for chosen, kind, line, face in ((one.same, 'same trajectory', ':', 'white'),
                                         (~one.same, 'another trajectory', '-', colour)):
            bins = binned(getattr(one, measure), chosen, one.distances[place], EDGES[place],
                          one.episode, seed)
            _line(axes, bins, label=f'{name}, {kind}', color=colour, marker=marker,
                  linestyle=line, markerfacecolor=face)


def _line(axes: Axes, bins: list[dict], **style: object) -> None:
    shown = [one for one in bins if one['count'] >= FEWEST]
    if shown:
        middle = [50 * (one['from_m'] + one['to_m']) for one in shown]  # cm
        value, low, high = (np.array([one[key] for one in shown])
                            for key in ('value', 'low', 'high'))
        axes.errorbar(middle, value, [value - low, high - value], capsize=0, elinewidth=0.8,
                      **style)
