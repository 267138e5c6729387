"""The commands of `stable-crl` around learning: train, evaluate."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
import json
import os
from pathlib import Path

from stable_crl_ros import SHIPPED_CHECKPOINT
from stable_crl_ros.cli_options import count_up


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add train and evaluate."""
    _add_train(commands)
    _add_evaluate(commands)


def _add_train(commands) -> None:
    text = 'train a policy from recorded datasets'
    train = commands.add_parser('train', help=text, description=(
        f'{text}. Ctrl-C saves before it ends; --resume goes on from there, or from the last '
        'checkpoint after a crash: on the CPU exactly as if nothing had happened.'), epilog=(
        'The folder of a run holds step_N.safetensors, latest.safetensors, best.safetensors (the '
        'rule is in its metadata: `stable-crl checkpoint show FILE`), metrics.csv, '
        'evaluations.csv, tensorboard and trainer_state.pt, which resuming needs.'))
    train.add_argument('datasets', nargs='+', metavar='DATASET', help='folders of episodes')
    train.add_argument('--out', required=True, metavar='FOLDER',
                       help='of the run: checkpoints, metrics.csv, tensorboard')
    train.add_argument('--steps', type=int, metavar='N',
                       help="gradient steps in all (default: the preset's)")
    train.add_argument('--resume', action='store_true', help='go on with the run in --out')
    train.add_argument('--device', default='auto', help='cpu, cuda, or auto (default: auto)')
    train.add_argument('--threads', type=int, metavar='N', help='CPU threads (default: all)')
    train.add_argument('--quiet', action='store_true',
                       help='show nothing but warnings, and the checkpoint at the end')
    _add_learning(train.add_argument_group('what is learned'))
    _add_schedule(train.add_argument_group('what is written, in gradient steps'))
    _add_periodic(train.add_argument_group(
        'evaluation in the simulator while training goes on; needs both of the first two'))
    train.set_defaults(run=_train)


def _add_learning(group) -> None:
    group.add_argument('--preset', metavar='NAME',
                       help='laptop, sim or bridge for Stable Contrastive RL, laptop-td and '
                            'sim-mc with the other critic; with -gcbc, -gciql, -hiql or -crl for '
                            'another algorithm (default: laptop, or the settings of --init-from)')
    group.add_argument('--init-from', metavar='FILE',
                       help='begin with the weights of this checkpoint (.safetensors), whose '
                            'network must be the same; optimisers and steps begin anew')
    group.add_argument('--set', nargs='+', action='extend', default=[], metavar='NAME=VALUE',
                       help="change the preset's settings, such as discount=0.9 or precision=bf16")
    group.add_argument('--seed', type=int, default=0, help='of everything random (default: 0)')
    group.add_argument('--camera', metavar='NAME', help='needed when there are several')
    group.add_argument('--transitions', type=int, metavar='N',
                       help='use the first episodes only, as many as fit into so many '
                            '(default: all)')
    held_out = group.add_mutually_exclusive_group()
    held_out.add_argument('--held-out', type=int, nargs='+', metavar='N',
                          help='episodes kept for validation')
    held_out.add_argument('--validation', metavar='FILE',
                          help='of `stable-crl episodes split`: which are kept for validation')
    held_out.add_argument('--validation-fraction', type=float, default=0.05, metavar='SHARE',
                          help='of the episodes kept for validation, drawn at random (default: '
                               '%(default)s)')


def _add_schedule(group) -> None:
    group.add_argument('--log-every', type=int, default=100, metavar='STEPS',
                       help='a row of metrics every so many steps (default: %(default)s)')
    group.add_argument('--save-every', type=int, default=1000, metavar='STEPS',
                       help='a checkpoint every so many steps (default: %(default)s)')
    group.add_argument('--keep-last', type=int, default=3, metavar='N',
                       help='checkpoints kept besides the best one (default: %(default)s)')


def _add_periodic(group) -> None:
    group.add_argument('--evaluate-every', type=int, metavar='STEPS',
                       help='score a checkpoint every so many steps; one after the other, the '
                            'last one always')
    group.add_argument('--evaluate-task', nargs='+', action='extend', metavar='NAME',
                       help='such as open_drawer close_drawer')
    group.add_argument('--evaluate-episodes', type=int, default=50, metavar='N',
                       help='trials per task, the same every time and others than `stable-crl '
                            'evaluate` runs (default: %(default)s)')
    group.add_argument('--evaluate-workers', type=int, default=1, metavar='N',
                       help='processes (default: %(default)s)')


def _train(chosen) -> None:
    from stable_crl_ros.crl.config import ConfigError
    from stable_crl_ros.crl.train import train
    settings = dict(word.partition('=')[::2] for word in chosen.set)
    nameless = [word for word in chosen.set if '=' not in word]
    if nameless:
        raise ConfigError(f'--set {nameless[0]!r} is not of the form NAME=VALUE')
    held_out = chosen.held_out
    if chosen.validation:
        from stable_crl_ros.data.splits import read_validation
        held_out = read_validation(chosen.validation, chosen.datasets)
    latest = train(
        chosen.datasets, chosen.out, chosen.preset, settings, steps=chosen.steps,
        seed=chosen.seed, resume=chosen.resume, device=chosen.device, threads=chosen.threads,
        camera=chosen.camera, validation_episodes=held_out,
        validation_fraction=chosen.validation_fraction, log_every=chosen.log_every,
        save_every=chosen.save_every, keep_last=chosen.keep_last, progress=not chosen.quiet,
        transitions=chosen.transitions, evaluate_every=chosen.evaluate_every,
        evaluator=_make_evaluator(chosen), init_from=chosen.init_from)
    if os.environ.get('RANK', '0') != '0':  # of torchrun: the first rank says it
        return
    print(f'trained: {latest}')
    best = latest.with_name('best.safetensors')
    if best.exists():
        print(f'best: {best}')


def _make_evaluator(chosen):
    if not chosen.evaluate_task:
        return None
    from stable_crl_ros.closed_loop import ClosedLoop
    return ClosedLoop(tuple(dict.fromkeys(chosen.evaluate_task)), chosen.evaluate_episodes,
                      chosen.evaluate_workers)


def _add_evaluate(commands) -> None:
    text = 'score checkpoints: in the simulator, or against recorded actions'
    evaluate = commands.add_parser('evaluate', help=text, description=(
        f'{text}. In the simulator every episode has a random start and a random goal, shown to '
        'the policy as an image only.'))
    evaluate.add_argument('policies', nargs='*', metavar='POLICY',
                          help='.safetensors files; controls: "none", "constant", '
                               '"blind:FILE" (always shown the same goal), "replay:DATASET" '
                               '(random recorded actions) (default: the shipped checkpoint)')
    evaluate.add_argument('--device', default='cpu', help='cpu, cuda or cuda:N (default: cpu)')
    evaluate.add_argument('--json', metavar='FILE', help='write every trial there too')
    closed = evaluate.add_argument_group('in the simulator')
    closed.add_argument('--task', action='append', metavar='NAME',
                        help='may be repeated (default: open_drawer and close_drawer)')
    closed.add_argument('--episodes', type=int, default=100, metavar='N',
                        help='trials per policy and task (default: %(default)s)')
    closed.add_argument('--seed', type=int, default=0, help='of starts and goals (default: 0)')
    closed.add_argument('--workers', type=int, default=2, metavar='N',
                        help='processes (default: %(default)s)')
    closed.add_argument('--sampled', action='store_true',
                        help="draw actions from the policy's distribution, not its mode")
    closed.add_argument('--appearance', default='nominal', metavar='NAME',
                        help='cameras and colours: nominal, seen or unseen (default: nominal)')
    opened = evaluate.add_argument_group('against recorded actions')
    opened.add_argument('--open-loop', metavar='DATASET', help='compare with this dataset')
    opened.add_argument('--held-out', type=int, nargs='+', metavar='N',
                        help='episodes to score; the others give the baselines')
    opened.add_argument('--camera', metavar='NAME', help='needed when there are several')
    evaluate.set_defaults(run=_evaluate)


def _evaluate(chosen) -> None:
    policies = chosen.policies or [str(SHIPPED_CHECKPOINT)]
    score = _open_loop if chosen.open_loop else _closed_loop
    if not chosen.json:
        score(chosen, policies)
        return
    with _reserved(Path(chosen.json)) as file:
        file.write_text(json.dumps(score(chosen, policies), indent=1))


@contextmanager
def _reserved(file: Path) -> Iterator[Path]:
    """Say before the work where a file cannot be written; leave none where it is not done."""
    new = not file.exists()
    file.touch()
    try:
        yield file
    except BaseException:
        if new:
            file.unlink(missing_ok=True)
        raise


def _closed_loop(chosen, policies: list[str]) -> list[dict]:
    from stable_crl_ros.evaluation import closed_loop_table, evaluate
    tasks = chosen.task or ['open_drawer', 'close_drawer']
    scores = []
    with count_up(chosen.episodes * len(policies) * len(tasks), unit='episode') as bar:
        for policy in policies:
            for task in tasks:
                scores.append(evaluate(policy, task, chosen.episodes, chosen.seed, chosen.workers,
                                       device=chosen.device, sampled=chosen.sampled,
                                       appearance=chosen.appearance, progress=bar.update))
    print(closed_loop_table(scores))
    return [score.to_dict() for score in scores]


def _open_loop(chosen, policies: list[str]) -> list[dict]:
    from dataclasses import asdict

    import numpy as np
    from stable_crl_ros.data.dataset import Dataset
    from stable_crl_ros.evaluation import EvaluationError
    from stable_crl_ros.open_loop import evaluate_open_loop, open_loop_table
    dataset = Dataset(chosen.open_loop)
    held_out = set(chosen.held_out or ())
    others = [number for number in dataset.ids if number not in held_out]
    if not held_out or not others:
        raise EvaluationError('--open-loop needs --held-out with some, not all, of the episodes '
                              f'{dataset.ids}')
    actions = np.concatenate([dataset[number]['action'] for number in others])
    scores = []
    for policy in policies:
        rows = evaluate_open_loop(policy, [dataset[number] for number in sorted(held_out)],
                                  actions, chosen.camera, chosen.device)
        scores += rows if not scores else rows[:1]  # the baselines once
    print(open_loop_table(scores))
    return [asdict(score) for score in scores]
