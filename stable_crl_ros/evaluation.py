"""Score checkpoints honestly: closed-loop trials, open-loop action error, confidence intervals."""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, field
import math

import numpy as np
from stable_crl_ros import SHIPPED_GOALS
from stable_crl_ros.actions import ACTION_NAMES, BRIDGE_HIGH
from stable_crl_ros.goals import GoalStore
from stable_crl_ros.parallel import spread

# Open-drawer pull of the constant control: straight towards the robot base, gripper closed.
CONSTANT_ACTION = (-BRIDGE_HIGH[0] / 4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
NO_ACTION = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
CONTROLS = {'constant': CONSTANT_ACTION, 'none': NO_ACTION}

# A checkpoint that is always shown the same goal, whatever it is scored against.
BLIND = 'blind:'
BLIND_GOAL = 'drawer_open'

# Evaluation episodes draw from streams that collection never uses (see sim.collect).
EVALUATION_STREAM = 1_000_000


class EvaluationError(ValueError):
    """An evaluation that cannot be run as asked."""


@dataclass(frozen=True)
class Trial:
    """
    One episode of a closed-loop evaluation.

    :param error: distance to the goal at the last step, metres.
    :param best_error: smallest distance over the episode, metres.
    :param start_error: distance before the first action, metres.
    """

    task: str
    seed: int
    error: float
    best_error: float
    start_error: float
    steps: int


@dataclass
class Score:
    """Closed-loop trials of one policy on one task."""

    policy: str
    task: str
    trials: list[Trial] = field(default_factory=list)

    def successes(self, tolerance: float) -> int:
        """
        Count the trials that ended near the goal.

        :param tolerance: metres.
        """
        return sum(trial.error <= tolerance for trial in self.trials)

    def to_dict(self) -> dict:
        """Return plain values for a JSON file."""
        return {'policy': self.policy, 'task': self.task,
                'trials': [asdict(trial) for trial in self.trials]}


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """
    Give the Wilson score interval of a success rate (Wilson 1927).

    :param successes: how many trials succeeded.
    :param trials: how many there were, > 0.
    :param z: normal quantile; the default gives 95 %.
    :returns: lower and upper bound, 0..1.
    :raises EvaluationError: without trials, or with more successes than trials.
    """
    if trials <= 0 or not 0 <= successes <= trials:
        raise EvaluationError(f'{successes} successes of {trials} trials is not a proportion')
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # The exact bound is 0 or 1 when all trials agree; rounding would miss it by an ulp.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == trials else (centre + spread) / scale
    return low, high


def make_actor(policy: str, device: str = 'cpu', threads: int = 1) -> Callable:
    """
    Build what drives the episodes: a checkpoint's policy, or a control.

    :param policy: path of a checkpoint, the same after `BLIND`, or one of `CONTROLS`.
    :returns: `start(goal_image)` -> `act(image)` -> physical action, shape (7,).
    """
    if policy in CONTROLS:
        return lambda goal: lambda image: np.array(CONTROLS[policy])
    from stable_crl_ros.policy import Policy
    loaded = Policy.load(policy.removeprefix(BLIND), device=device, threads=threads)
    blind = policy.startswith(BLIND)
    same_goal = GoalStore(SHIPPED_GOALS).load(BLIND_GOAL).image if blind else None

    def start(goal: np.ndarray) -> Callable:
        loaded.set_goal(goal if same_goal is None else same_goal)
        return loaded.select_action
    return start


def trial_seed(seed: int, episode: int) -> int:
    """Turn an evaluation's seed and an episode's number into the environment's seed."""
    stream = np.random.SeedSequence([seed, EVALUATION_STREAM + episode])
    return int(stream.generate_state(1)[0])


def run_trial(env, start_actor: Callable, task: str, seed: int,
              steps: int | None = None) -> Trial:
    """
    Run one episode from images alone.

    :param env: `sim.env.WidowXEnv` of the task.
    :param start_actor: what `make_actor` returned.
    :param seed: of start and goal.
    :param steps: length of the episode, control steps; None takes the task's own.
    """
    from stable_crl_ros.sim.rollout import run_episode
    errors = run_episode(env, start_actor, seed, steps=steps).errors
    return Trial(task, seed, float(errors[-1]), float(errors[1:].min()), float(errors[0]),
                 len(errors) - 1)


def _run_share(policy: str, task: str, seeds: list[int], steps: int | None,
               device: str) -> list[Trial]:
    from stable_crl_ros.sim.env import WidowXEnv
    start_actor = make_actor(policy, device)
    with closing(WidowXEnv(task=task)) as env:
        return [run_trial(env, start_actor, task, seed, steps) for seed in seeds]


def evaluate(policy: str, task: str, episodes: int = 100, seed: int = 0, workers: int = 2,
             steps: int | None = None, device: str = 'cpu',
             progress: Callable[[int], None] = lambda count: None) -> Score:
    """
    Run closed-loop trials in the embedded simulator from random starts and goals.

    :param policy: what `make_actor` takes.
    :param task: name of a task of `sim.tasks.TASKS`.
    :param episodes: number of trials, > 0.
    :param seed: of the evaluation; the same seed gives the same starts and goals.
    :param workers: processes.
    :param progress: called with the number of trials just finished.
    :raises EvaluationError: for an unknown task, a count below 1 or a seed below 0.
    """
    from stable_crl_ros.sim.tasks import TASKS
    if task not in TASKS:
        raise EvaluationError(f'unknown task {task!r}; choose one of {sorted(TASKS)}')
    if episodes < 1 or workers < 1 or seed < 0:
        raise EvaluationError(f'evaluating needs episodes >= 1, workers >= 1 and seed >= 0; got '
                              f'{episodes}, {workers} and {seed}')
    seeds = [trial_seed(seed, episode) for episode in range(episodes)]
    shares = [seeds[i:i + 10] for i in range(0, episodes, 10)]
    score = Score(policy, task)
    calls = [(policy, task, share, steps, device) for share in shares]
    with closing(spread(_run_share, calls, workers)) as done:
        for trials in done:
            score.trials += trials
            progress(len(trials))
    return score


def short_name(policy: str) -> str:
    """Name a checkpoint by its folder and file: every run has a `latest.safetensors`."""
    blind = BLIND if policy.startswith(BLIND) else ''
    return blind + '/'.join(policy.removeprefix(BLIND).split('/')[-2:])


def closed_loop_table(scores: list[Score], tolerances: tuple[float, ...] = (0.01, 0.025)) -> str:
    """
    Lay the scores out as a Markdown table with 95 % Wilson intervals.

    :param tolerances: metres from the goal at the last step that count as success.
    """
    head = ['policy', 'task', 'trials', *(f'within {1000 * t:g} mm' for t in tolerances),
            'median error']
    rows = [' | '.join(head), ' | '.join(['---'] * len(head))]
    for score in scores:
        trials = len(score.trials)
        cells = [short_name(score.policy), score.task, str(trials)]
        for tolerance in tolerances:
            count = score.successes(tolerance)
            low, high = wilson_interval(count, trials)
            cells.append(f'{100 * count / trials:.0f} % [{100 * low:.0f}, {100 * high:.0f}]')
        median = float(np.median([trial.error for trial in score.trials]))
        rows.append(' | '.join([*cells, f'{1000 * median:.1f} mm']))
    return '\n'.join(f'| {row} |' for row in rows)


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
