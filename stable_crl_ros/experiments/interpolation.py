"""Interpolation between start and goal: do the nearest frames along it show the way?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
import numpy as np
from stable_crl_ros.experiments.demonstrations import Demonstration
from stable_crl_ros.experiments.estimates import mean_band, mean_estimate, show, spearman
from stable_crl_ros.experiments.learned import Learned
from stable_crl_ros.experiments.vae import train_vae, VAE_SPEC
from stable_crl_ros.figures import band, COLOURS, drawing, GREY, show_picture
from stable_crl_ros.images import ImageSpec

FRACTIONS = np.linspace(0.0, 1.0, 11)  # of the way from the start's representation to the goal's
SHOWN = (1, 3, 5, 7, 9)  # of FRACTIONS, in the picture
LEAST_CHANGE = 0.02  # m between start and goal; below it there is no way to be followed
Represent = Callable[[np.ndarray], np.ndarray]


@dataclass
class Walk:
    """
    What one representation retrieved, P pairs of start and goal, K fractions.

    :param frames: index into all frames of the gallery, (P, K).
    :param progress: share of the object's true way from start to goal, (P, K); 0 start, 1 goal.
    :param deviations: m from the straight line of the true state, (P, K).
    """

    frames: np.ndarray
    progress: np.ndarray
    deviations: np.ndarray

    @property
    def correlations(self) -> np.ndarray:
        """Spearman correlation of true progress with the fraction, (P,)."""
        return np.array([spearman(FRACTIONS, row) for row in self.progress])


def way_pairs(demonstrations: Sequence[Demonstration]) -> list[int]:
    """List the demonstrations whose goal is at least `LEAST_CHANGE` from their start."""
    return [i for i, item in enumerate(demonstrations)
            if np.linalg.norm(item.goal_objects - item.objects[0]) >= LEAST_CHANGE]


def walk(starts: np.ndarray, goals: np.ndarray, gallery: np.ndarray, owner: np.ndarray,
         pairs: Sequence[int], states: np.ndarray, start_states: np.ndarray,
         goal_states: np.ndarray, with_own: bool = False) -> Walk:
    """
    Retrieve the nearest frames (Euclidean) along straight lines between representations.

    Without `with_own` a pair's own episode is no part of its gallery: what is alike in all
    frames of one recording, such as where a bystander stands, is then no help.

    :param starts: representations of the starts, (P, R); `goals` too.
    :param gallery: representations of all frames, (F, R).
    :param owner: episode of each frame, (F,).
    :param pairs: episode of each pair, (P,).
    :param states: true state of each frame, m, (F, D); `start_states`, `goal_states` (P, D).
    """
    frames = np.empty((len(starts), len(FRACTIONS)), int)
    squares = np.einsum('fr,fr->f', gallery, gallery)
    for p, (start, goal) in enumerate(zip(starts, goals, strict=True)):
        line = start + FRACTIONS[:, None] * (goal - start)  # (K, R)
        distances = squares - 2 * line @ gallery.T  # squared, less what all frames share
        if not with_own:
            distances[:, owner == pairs[p]] = np.inf
        frames[p] = distances.argmin(1)
    way = (goal_states - start_states)[:, None]  # (P, 1, D)
    moved = states[frames] - start_states[:, None]  # (P, K, D)
    progress = (moved * way).sum(-1) / (way * way).sum(-1)
    return Walk(frames, progress,
                np.linalg.norm(moved - FRACTIONS[:, None] * way, axis=-1))


def compare_walks(representations: dict[str, tuple[Represent, ImageSpec]],
                  demonstrations: Sequence[Demonstration],
                  ) -> tuple[dict[str, Walk], dict[str, Walk]]:
    """
    Walk with every representation over the same pairs and gallery.

    :param representations: name -> what turns pictures into (B, R), and their image spec.
    :returns: walks by name, among other episodes' frames and among all frames.
    """
    pairs = way_pairs(demonstrations)
    owner = np.repeat(np.arange(len(demonstrations)),
                      [len(item.objects) for item in demonstrations])
    states = np.concatenate([item.objects for item in demonstrations])
    start_states = np.array([demonstrations[i].objects[0] for i in pairs])
    goal_states = np.array([demonstrations[i].goal_objects for i in pairs])
    others, every = {}, {}
    for name, (represent, spec) in representations.items():
        gallery = represent(np.concatenate([item.images[spec] for item in demonstrations]))
        first = np.array([np.flatnonzero(owner == i)[0] for i in pairs])
        goals = represent(np.stack([demonstrations[i].goal_images[spec] for i in pairs]))
        others[name], every[name] = (
            walk(gallery[first], goals, gallery, owner, pairs, states, start_states, goal_states,
                 with_own) for with_own in (False, True))
    return others, every


def flatten_pixels(images: np.ndarray) -> np.ndarray:
    """Take pictures (B, H, W, 3) as they are for representations, (B, H * W * 3)."""
    return images.reshape(len(images), -1).astype(np.float32)


def interpolate(learned: Sequence[Learned], demonstrations: Sequence[Demonstration],
                training: np.ndarray, out: Path, seed: int, vae_steps: int,
                progress: Callable[[int], None]) -> tuple[dict, list[str]]:
    """
    Compare contrastive representations with pixels and with a VAE's of the same size.

    :param learned: with a contrastive critic each.
    :param demonstrations: held out from `training`.
    :param training: uint8 (N, 48, 48, 3), what the VAE learns from.
    :param progress: called with the VAE's training steps.
    :returns: numbers, and lines of Markdown.
    """
    sizes = sorted({one.config.representation_size for one in learned})
    vaes = {f'VAE {size}' if len(sizes) > 1 else 'VAE':
            train_vae(training, size, vae_steps, seed, progress) for size in sizes}
    spec = learned[0].image_spec
    representations = {one.label: (one.represent, one.image_spec) for one in learned}
    representations |= {name: (vae.represent, VAE_SPEC) for name, vae in vaes.items()}
    representations['pixels'] = flatten_pixels, spec
    walks, every = compare_walks(representations, demonstrations)
    held_out = np.concatenate([item.images[VAE_SPEC] for item in demonstrations])
    numbers = {
        'pairs': len(way_pairs(demonstrations)), 'frames': len(held_out), 'seed': seed,
        'least_change_m': LEAST_CHANGE, 'fractions': FRACTIONS.tolist(),
        'vae': {name: {'latent': vae.size, 'steps': vae_steps, 'frames': len(training),
                       'held_out_pixel_error': vae.reconstruction_error(held_out)}
                for name, vae in vaes.items()},
        'representations': {name: _describe(one, seed) for name, one in walks.items()},
        'with_own_episode': {name: _describe(one, seed) for name, one in every.items()}}
    _draw(out / 'interpolation.png', walks, demonstrations, spec, seed)
    return numbers, _table(numbers)


def _describe(one: Walk, seed: int) -> dict:
    mean, low, high = mean_band(one.progress, seed)
    return {'spearman': mean_estimate(one.correlations, seed),
            'deviation_m': mean_estimate(one.deviations.mean(1), seed),
            'progress': {'mean': mean.tolist(), 'low': low.tolist(), 'high': high.tolist()}}


def _table(numbers: dict) -> list[str]:
    lines = ['| representation | pairs | Spearman of true progress | off the straight line (mm) '
             '| the same with its own episode |  |',
             '| --- | --- | --- | --- | --- | --- |']
    for name, one in numbers['representations'].items():
        own = numbers['with_own_episode'][name]
        cells = [cell for part in (one, own) for cell in (
            show(part['spearman']),
            show(part['deviation_m'], lambda value: f'{1000 * value:.1f}'))]
        lines.append(f'| {" | ".join([name, str(numbers["pairs"]), *cells])} |')
    return lines


def _draw(path: Path, walks: dict[str, Walk], demonstrations: Sequence[Demonstration],
          spec: ImageSpec, seed: int) -> None:
    with drawing(path, max(2.6, 0.35 + 0.82 * len(walks))) as figure:
        pictures, curves = figure.subfigures(1, 2, width_ratios=(2.5, 1))
        _draw_frames(pictures, walks, demonstrations, spec)
        _draw_progress(curves.subplots(), walks, seed)


def _draw_frames(figure: SubFigure, walks: dict[str, Walk],
                 demonstrations: Sequence[Demonstration], spec: ImageSpec) -> None:
    """Show one pair: the one whose way is the median, neither the easiest nor the hardest."""
    frames = np.concatenate([item.images[spec] for item in demonstrations])
    pairs = way_pairs(demonstrations)
    ways = [np.linalg.norm(demonstrations[i].goal_objects - demonstrations[i].objects[0])
            for i in pairs]
    chosen = int(np.argsort(ways)[len(ways) // 2])
    example = demonstrations[pairs[chosen]]
    axes = figure.subplots(len(walks), len(SHOWN) + 2, squeeze=False,
                           gridspec_kw={'wspace': 0.04, 'hspace': 0.02})
    for row, (name, one) in zip(axes, walks.items(), strict=True):
        first = row[0] is axes[0, 0]
        show_picture(row[0], example.images[spec][0], 'start' if first else '', 'true way 0')
        show_picture(row[-1], example.goal_images[spec], 'goal' if first else '', '1')
        for axis, k in zip(row[1:-1], SHOWN, strict=True):
            show_picture(axis, frames[one.frames[chosen, k]],
                         f'{FRACTIONS[k]:.1f}' if first else '',
                         f'{one.progress[chosen, k] + 0.0:.2f}')
        row[0].set_ylabel(name)


def _draw_progress(axes: Axes, walks: dict[str, Walk], seed: int) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle='--', label='straight line')
    for (name, one), colour in zip(walks.items(), COLOURS, strict=False):
        band(axes, FRACTIONS, mean_band(one.progress, seed), name, colour)
    axes.set_xlabel('way in the representation')
    axes.set_ylabel('true way of the object')
    axes.set_xticks([0, 0.5, 1], ['start', '½', 'goal'])
    axes.set_yticks([0, 0.5, 1], ['start', '½', 'goal'])
    axes.figure.legend(loc='outside upper center', ncols=2, handlelength=1.2, columnspacing=1.0)
