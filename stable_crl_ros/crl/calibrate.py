"""Calibrate a checkpoint's progress on recorded episodes: time is the only teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from stable_crl_ros.calibration import (
    Calibration,
    check_calibration,
    fit_calibration,
    Pairs,
)
from stable_crl_ros.crl.agent import Agent
from stable_crl_ros.crl.networks import to_pixels
from stable_crl_ros.data.cache import TrainingCache
import torch
from torch import nn

NEAR_S = 1.0  # of the goal's own frame: that long before and after it is as good as there
CAP_S = 10.0  # beyond that, further is no further
GOALS = 250  # drawn of the training episodes; of the held-out ones CHECKED
CHECKED = 100
ANYWHERE, AROUND, ELSEWHERE, ENDS = 6, 6, 3, 3  # pictures per goal, see `draw_pairs`
CHUNK = 256  # pictures per pass


@dataclass(frozen=True)
class Learner:
    """
    Networks to calibrate.

    :param agent: their class.
    :param pixel_range: what they were trained on.
    """

    agent: type[Agent]
    networks: Mapping[str, nn.Module]
    pixel_range: str

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what its class reads progress from; none without a critic."""
        return tuple(dict.fromkeys([*self.agent.STEPS_FROM, *self.agent.AT_GOAL_FROM]))

    @torch.inference_mode()
    def measure(self, observations: np.ndarray, goals: np.ndarray, rows: np.ndarray,
                names: Sequence[str]) -> dict[str, np.ndarray]:
        """
        Measure how near pictures are to goals, as the policy would.

        :param observations: uint8 RGB (N, height, width, 3), as resized for the network.
        :param goals: (G, height, width, 3) alike, few enough for one pass: encoded once.
        :param rows: which goal each picture is measured against, int64 (N,).
        :returns: float, (N,), by name; 'score' is `Agent.score`, where there is one.
        """
        wanted = self._pixels(goals)
        placed = self.agent.place_goals(self.networks, wanted)
        parts: list[dict] = []
        for start in range(0, len(observations), CHUNK):
            seen = self._pixels(observations[start:start + CHUNK])
            chosen = torch.tensor(rows[start:start + CHUNK], device=seen.device)
            actions = self.agent.act(self.networks, seen, wanted[chosen])
            score, found = self.agent.assess(
                self.networks, seen, actions, self.agent.pick_goals(placed, chosen), names)
            parts.append(found if score is None else found | {'score': score})
        return {name: torch.cat([part[name] for part in parts]).double().cpu().numpy()
                for name in parts[0]}

    def measure_frames(self, cache: TrainingCache, pictures: np.ndarray, goals: np.ndarray,
                       ) -> dict[str, np.ndarray]:
        """
        Measure pairs of frames, each pair once however often it comes.

        :param pictures: frames of the pictures, int64 (N,); `goals` alike.
        :returns: `measures`, (N,), by name.
        """
        total = len(cache.observations)
        pairs, place = np.unique(goals * total + pictures, return_inverse=True)
        wanted, rows = np.unique(pairs // total, return_inverse=True)
        found = self.measure(cache.images(pairs % total), cache.images(wanted), rows,
                             self.measures)
        return {name: values[place] for name, values in found.items()}

    def _pixels(self, images: np.ndarray) -> torch.Tensor:
        device = next(self.networks['actor'].parameters()).device
        return to_pixels(torch.tensor(images, device=device), self.pixel_range)


def draw_pairs(cache: TrainingCache, goals: int, near: int, rng: np.random.Generator,
               ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Draw pictures and goal pictures whose distance in time is known.

    Half of the goals are the last frames of their episodes, as goal photographs are, half any
    frames. With each come pictures of anywhere in its episode, of around it, and, as examples of
    where it is not, of anywhere in other episodes and of their ends, where the arm rests alike.

    :param goals: how many.
    :param near: steps from a goal within which it counts as reached.
    :returns: frames of the pictures, frames of the goals, and steps from one to the other
        (infinite between episodes), each (N,); no goal is its own picture.
    """
    starts, first = np.unique(cache.starts, return_index=True)
    ends, count = cache.ends[first], len(starts)
    own = rng.integers(0, count, goals)[:, None]
    last = rng.random((goals, 1)) < 0.5
    goal = np.where(last, ends[own], rng.integers(starts[own], ends[own] + 1))
    anywhere = rng.integers(starts[own], ends[own] + 1, (goals, ANYWHERE))
    reach = near + near // 2 + 1
    around = np.clip(goal + rng.integers(-reach, reach + 1, (goals, AROUND)), starts[own],
                     ends[own])
    pictures, distances = [anywhere, around], [goal - anywhere, goal - around]
    if count > 1:
        other = (own + rng.integers(1, count, (goals, ELSEWHERE + ENDS))) % count
        frames = rng.integers(starts[other], ends[other] + 1)
        frames[:, ELSEWHERE:] = ends[other[:, ELSEWHERE:]]
        pictures.append(frames)
        distances.append(np.full(frames.shape, np.inf))
    picture, distance = np.concatenate(pictures, 1), np.concatenate(distances, 1).astype(float)
    apart = distance != 0  # a goal's own picture is never seen again
    return picture[apart], np.broadcast_to(goal, picture.shape)[apart], distance[apart]


def calibrate(learner: Learner, training: TrainingCache, validation: TrainingCache | None,
              control_rate: float, seed: int = 0) -> Calibration | None:
    """
    Fit what a learner's measures mean, on recorded episodes without any label.

    :param training: episodes to fit on.
    :param validation: others, on which the fit is checked; None for none.
    :param control_rate: Hz, of the episodes.
    :param seed: of what is drawn: the same, the same calibration.
    :returns: None where nothing learns how near a goal is.
    :raises CalibrationError: as `fit_calibration`.
    """
    if not learner.measures:
        return None
    rng = np.random.default_rng([seed, 1])
    near, cap = max(1, round(NEAR_S * control_rate)), max(2, round(CAP_S * control_rate))

    def measured(cache: TrainingCache, goals: int) -> Pairs:
        pictures, wanted, distance = draw_pairs(cache, goals, near, rng)
        return Pairs(learner.measure_frames(cache, pictures, wanted), distance)
    pairs = measured(training, GOALS)
    fitted = fit_calibration(pairs, learner.agent.STEPS_FROM, learner.agent.AT_GOAL_FROM, near,
                             cap)
    checked = {'seed': seed, 'fitted': check_calibration(fitted, pairs)}
    if validation is not None:
        checked['held_out'] = check_calibration(fitted, measured(validation, CHECKED))
    return replace(fitted, checked=checked)
