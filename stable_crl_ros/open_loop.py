"""Compare a policy's actions with recorded ones: open-loop error beside simple baselines."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from stable_crl_ros.actions import ACTION_NAMES
from stable_crl_ros.evaluation import EvaluationError, short_name


@dataclass(frozen=True)
class OpenLoopScore:
    """
    How far a policy's actions are from the operator's on recorded episodes.

    :param mean_absolute_error: per dimension of `ACTION_NAMES`, physical units, shape (7,).
    :param normalised_error: mean squared error in units of the training data's variance: the
        mean action scores 1 on data that is spread like it.
    """

    policy: str
    transitions: int
    mean_absolute_error: tuple[float, ...]
    normalised_error: float


def open_loop_scores(predictions: dict[str, np.ndarray], actions: np.ndarray,
                     std: np.ndarray) -> list[OpenLoopScore]:
    """
    Compare predicted with recorded actions.

    :param predictions: name -> physical actions, shape (N, 7).
    :param actions: the operator's, shape (N, 7).
    :param std: standard deviation of the training data's actions, shape (7,), > 0.
    """
    scores = []
    for name, predicted in predictions.items():
        difference = np.asarray(predicted, float) - actions
        scores.append(OpenLoopScore(
            name, len(actions), tuple(float(v) for v in np.abs(difference).mean(0)),
            float(((difference / std) ** 2).mean())))
    return scores


def evaluate_open_loop(checkpoint: str, episodes: Iterable, training_actions: np.ndarray,
                       camera: str | None = None, device: str = 'cpu') -> list[OpenLoopScore]:
    """
    Predict each recorded action of held-out episodes from its image and the episode's last one.

    Zero action (gripper as the data's mean) and mean action are the baselines.

    :param checkpoint: path of the checkpoint.
    :param episodes: held-out `data.episode.Episode`s.
    :param training_actions: physical actions of the training episodes, shape (M, 7).
    :param camera: may be left out when the episodes have one camera.
    :raises EvaluationError: when there is nothing to score.
    """
    from stable_crl_ros.policy import Policy
    policy = Policy.load(checkpoint, device=device)
    predicted, recorded = [], []
    for episode in episodes:
        images = episode.images(camera)
        policy.set_goal(np.asarray(images[-1]))
        for step, action in enumerate(episode['action']):
            predicted.append(policy.select_action(np.asarray(images[step])))
            recorded.append(action)
    if not recorded:
        raise EvaluationError('no held-out transitions to score')
    mean = training_actions.mean(0)
    zero = np.zeros(len(ACTION_NAMES))
    zero[-1] = mean[-1]
    actions = np.asarray(recorded, float)
    return open_loop_scores({
        short_name(checkpoint): np.asarray(predicted),
        'zero action': np.broadcast_to(zero, actions.shape),
        'mean action': np.broadcast_to(mean, actions.shape),
    }, actions, np.maximum(training_actions.std(0), 1e-6))


def open_loop_table(scores: list[OpenLoopScore]) -> str:
    """Lay the scores out as a Markdown table: millimetres, milliradians, gripper in percent."""
    head = ['policy', 'transitions', 'error / variance',
            *(f'{name} {unit}' for name, unit in zip(
                ACTION_NAMES, ['(mm)'] * 3 + ['(mrad)'] * 3 + ['(%)'], strict=True))]
    factors = [1000.0] * 6 + [100.0]
    rows = [' | '.join(head), ' | '.join(['---'] * len(head))]
    for score in scores:
        cells = [f'{factor * value:.1f}' for factor, value in
                 zip(factors, score.mean_absolute_error, strict=True)]
        rows.append(' | '.join([score.policy, str(score.transitions),
                                f'{score.normalised_error:.2f}', *cells]))
    return '\n'.join(f'| {row} |' for row in rows)
