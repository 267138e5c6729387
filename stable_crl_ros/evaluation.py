"""Score policies honestly: closed-loop trials from images alone, controls, intervals."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
from stable_crl_ros import SHIPPED_GOALS
from stable_crl_ros.actions import BRIDGE_HIGH
from stable_crl_ros.goals import GoalStore
from stable_crl_ros.intervals import wilson_interval
from stable_crl_ros.parallel import spread

# Open-drawer pull of the constant control: straight towards the robot base, gripper closed.
CONSTANT_ACTION = (-BRIDGE_HIGH[0] / 4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
NO_ACTION = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
CONTROLS = {'constant': CONSTANT_ACTION, 'none': NO_ACTION}

# A checkpoint that is always shown the same goal, whatever it is scored against.
BLIND = 'blind:'
BLIND_GOAL = 'drawer_open'

# The actions of a random episode of a dataset, whatever is seen: its behaviour without goals.
REPLAY = 'replay:'

# Evaluation episodes draw from streams that collection never uses (see sim.collect).
EVALUATION_STREAM = 1_000_000
SHARE = 10  # trials a worker runs before it reports


class EvaluationError(ValueError):
    """An evaluation that cannot be run as asked."""


@dataclass(frozen=True)
class Trial:
    """
    One episode of a closed-loop evaluation; everything is judged at its last step.

    :param errors: metres from the goal, by object ('drawer', 'block').
    :param success: whether every object is within the task's strict tolerance.
    :param success_loose: the same with the loose one.
    :param best_error: smallest over the episode of the largest error, metres.
    :param start_error: largest error before the first action, metres.
    :param arm_error: metres between the tool point and the goal picture's.
    """

    task: str
    seed: int
    errors: dict[str, float]
    success: bool
    success_loose: bool
    best_error: float
    start_error: float
    arm_error: float
    steps: int

    @property
    def error(self) -> float:
        """Metres, of the object that is furthest off."""
        return max(self.errors.values())


@dataclass
class Score:
    """Closed-loop trials of one policy on one task."""

    policy: str
    task: str
    trials: list[Trial] = field(default_factory=list)

    def successes(self, loose: bool = False) -> int:
        """Count the trials that ended with every object within its tolerance."""
        return sum(trial.success_loose if loose else trial.success for trial in self.trials)

    def to_dict(self) -> dict:
        """Return plain values for a JSON file."""
        return {'policy': self.policy, 'task': self.task,
                'trials': [asdict(trial) for trial in self.trials]}


def make_actor(policy: str, device: str = 'cpu', threads: int = 1, sampled: bool = False,
               seed: int = 0) -> Callable:
    """
    Build what drives the episodes: a checkpoint's policy, or a control.

    :param policy: path of a checkpoint, the same after `BLIND`, a dataset's after `REPLAY`, or
        one of `CONTROLS`.
    :param sampled: draw actions from the policy's distribution instead of taking its mode.
    :param seed: of those draws, and of the episodes replayed.
    :returns: `start(goal_image)` -> `act(image)` -> physical action, shape (7,).
    """
    rng = np.random.default_rng(seed)
    if policy in CONTROLS:
        return lambda goal: lambda image: np.array(CONTROLS[policy])
    if policy.startswith(REPLAY):
        return _make_replay(policy.removeprefix(REPLAY), rng)
    from stable_crl_ros.policy import Policy
    loaded = Policy.load(policy.removeprefix(BLIND), device=device, threads=threads)
    blind = policy.startswith(BLIND)
    same_goal = GoalStore(SHIPPED_GOALS).load(BLIND_GOAL).image if blind else None

    def start(goal: np.ndarray) -> Callable:
        loaded.set_goal(goal if same_goal is None else same_goal)
        return partial(loaded.sample_action, rng=rng) if sampled else loaded.select_action
    return start


def _make_replay(path: str, rng: np.random.Generator) -> Callable:
    from stable_crl_ros.data.dataset import Dataset
    dataset = Dataset(path)

    def start(goal: np.ndarray) -> Callable:
        actions = np.asarray(dataset[int(rng.choice(dataset.ids))]['action'])
        step = iter(actions)
        return lambda image: next(step, actions[-1])  # a short episode ends with its last action
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
    rollout = run_episode(env, start_actor, seed, steps=steps)
    errors, info = rollout.errors, rollout.info
    return Trial(task, seed, {name: float(error) for name, error in info['errors'].items()},
                 bool(info['success']), bool(info['success_loose']), float(errors[1:].min()),
                 float(errors[0]), float(info['arm_error']), len(errors) - 1)


@dataclass(frozen=True)
class Trials:
    """What a worker runs at a stretch; see `evaluate`."""

    policy: str
    task: str
    seeds: tuple[int, ...]
    steps: int | None
    device: str
    sampled: bool
    appearance: str

    def run(self) -> list[Trial]:
        """Run every trial in this process."""
        from stable_crl_ros.sim.env import WidowXEnv
        start_actor = make_actor(self.policy, self.device, 1, self.sampled, self.seeds[0])
        with closing(WidowXEnv(task=self.task, appearance=self.appearance)) as env:
            return [run_trial(env, start_actor, self.task, seed, self.steps)
                    for seed in self.seeds]


def evaluate(policy: str | Sequence[str], task: str, episodes: int = 100, seed: int = 0,
             workers: int = 2, steps: int | None = None, device: str = 'cpu',
             sampled: bool = False, appearance: str = 'nominal',
             progress: Callable[[int], None] = lambda count: None) -> Score:
    """
    Run closed-loop trials in the embedded simulator from random starts and goals.

    :param policy: what `make_actor` takes; several, such as a run's last checkpoints, share the
        trials evenly.
    :param task: name of a task of `sim.tasks.TASKS`.
    :param episodes: number of trials, > 0.
    :param seed: of the evaluation; the same seed gives the same starts and goals.
    :param workers: processes.
    :param sampled: draw actions from the policy's distribution instead of taking its mode.
    :param appearance: cameras and colours to draw from, see `sim.appearance`.
    :param progress: called with the number of trials just finished.
    :raises EvaluationError: for an unknown task or appearance, a count below 1 or a seed below 0.
    """
    from stable_crl_ros.sim.appearance import SPLITS
    from stable_crl_ros.sim.tasks import TASKS
    policies = [policy] if isinstance(policy, str) else list(policy)
    for kind, name, known in (('task', task, TASKS), ('appearance', appearance, SPLITS)):
        if name not in known:
            raise EvaluationError(f'unknown {kind} {name!r}; choose one of {sorted(known)}')
    if episodes < 1 or workers < 1 or seed < 0 or not policies:
        raise EvaluationError(f'evaluating needs episodes >= 1, workers >= 1, seed >= 0 and a '
                              f'policy; got {episodes}, {workers}, {seed} and {policies}')
    seeds = [trial_seed(seed, episode) for episode in range(episodes)]
    shares = [(name, seeds[start::len(policies)]) for start, name in enumerate(policies)]
    calls = [(Trials(name, task, tuple(share[i:i + SHARE]), steps, device, sampled, appearance),)
             for name, share in shares for i in range(0, len(share), SHARE)]
    score = Score(', '.join(policies), task)
    with closing(spread(Trials.run, calls, workers)) as done:
        for trials in done:
            score.trials += trials
            progress(len(trials))
    return score


def short_name(policy: str) -> str:
    """Name a checkpoint by its folder and file: every run has a `latest.safetensors`."""
    kind = next((prefix for prefix in (BLIND, REPLAY) if policy.startswith(prefix)), '')
    return kind + '/'.join(policy.removeprefix(kind).split('/')[-2:])


def closed_loop_table(scores: list[Score]) -> str:
    """Lay the scores out as a Markdown table with 95 % Wilson intervals."""
    from stable_crl_ros.sim.tasks import TASKS
    rows = ['policy | task | trials | strict | loose | median error', ' | '.join(['---'] * 6)]
    for score in scores:
        trials = len(score.trials)
        cells = [short_name(score.policy), score.task, str(trials)]
        for loose in (False, True):
            count = score.successes(loose)
            low, high = wilson_interval(count, trials)
            cells.append(f'{100 * count / trials:.0f} % [{100 * low:.0f}, {100 * high:.0f}]')
        median = float(np.median([trial.error for trial in score.trials]))
        rows.append(' | '.join([*cells, f'{1000 * median:.1f} mm']))
    tolerances = {name: pair for score in scores
                  for name, pair in TASKS[score.task].tolerances.items()}
    meaning = '; '.join(f'{name} {1000 * strict:g} and {1000 * loose:g} mm'
                        for name, (strict, loose) in tolerances.items())
    return '\n'.join([*(f'| {row} |' for row in rows), '',
                      f'strict and loose, at the last step: {meaning}'])
