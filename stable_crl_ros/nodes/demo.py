"""`stable-crl demo`: the whole loop on the simulated robot, judged by the simulator's truth."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
import os
from pathlib import Path
import re
import statistics
import sys
import time

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from stable_crl_ros.bringup import GRAPHS, SIMULATED
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.data.sheet import write_sheet
from stable_crl_ros.data.video import write_video
from stable_crl_ros.environment import LaunchError, ros_environment
from stable_crl_ros.goals import GoalStore
from stable_crl_ros.launcher import Launcher
from stable_crl_ros.nodes.client import Client, ClientError
from stable_crl_ros.nodes.demo_monitor import DemoMonitor
from stable_crl_ros.sim.tasks import Task, task_named, TASKS
from stable_crl_ros.sim.world import CAMERA_NAME, World, WorldState

SETTLED_STEPS = 10  # control steps at the goal before the demo ends early
SPARE_STEPS = 10  # beyond the task's own number, before the demo gives up
REST_S = 1.5  # from the last command to the verdict; the policy reports its ticks once a second
LOG = 'nodes.log'
COMPLAINTS = re.compile(r'\[(ERROR|FATAL)\]|cannot run|Error: ')
START_LIMIT_S = 60.0  # longest bring-up


class DemoError(RuntimeError):
    """A demo that could not run to its end."""


@dataclass(frozen=True)
class Scene:
    """What the demo is about: a start and a goal drawn from a seed, and the goal's photograph."""

    task: Task
    seed: int
    start: WorldState
    goal: WorldState
    image: np.ndarray


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the demo.

    :returns: 0 when the simulator says the goal was reached, 1 when not.
    """
    options = make_parser().parse_args(arguments)
    os.environ.update(ros_environment())
    scene = draw_scene(options.task, options.seed)
    folder = make_folder(Path(options.out).expanduser(), options.seed)
    goal = GoalStore(folder / 'goals').save(
        options.task, scene.image, {'camera': CAMERA_NAME, 'source': 'simulation',
                                    'drawer_opening': scene.goal.drawer})
    print(f'goal photograph: {goal.path}\n'
          f'that is: {scene.task.description}; the robot is shown the picture only', flush=True)
    launcher = make_launcher(options, goal.path, folder)
    try:
        with launcher:
            monitor = run(launcher, scene, options.steps or scene.task.max_steps + SPARE_STEPS)
    except (LaunchError, ClientError, DemoError) as error:
        raise DemoError(f'{error}; {last_words(folder / LOG)}') from error
    return report(monitor, scene, folder)


def make_parser() -> argparse.ArgumentParser:
    """Describe the options."""
    parser = argparse.ArgumentParser(
        prog='stable-crl demo', description='Camera, policy, arm, goal and recording as ROS 2 '
        'processes around a simulated WidowX, until the goal photograph is reached.')
    parser.add_argument('--seed', type=_at_least(0), default=0, help='of the scene and the goal')
    parser.add_argument('--task', choices=tuple(TASKS), default='open_drawer')
    parser.add_argument('--robot', choices=SIMULATED, default='sim', help='emulated: the same '
                        'world behind an emulated servo bus, driven as the real arm is')
    parser.add_argument('--checkpoint', default='', help='.safetensors; the shipped one if empty')
    parser.add_argument('--steps', type=_at_least(1),
                        help="control steps before giving up (default: the task's, and "
                             f'{SPARE_STEPS} more)')
    parser.add_argument('--out', default='runs', help='folder for goal, episode and pictures')
    parser.add_argument('--verbose', action='store_true', help="show the nodes' own lines")
    return parser


def _at_least(low: int):
    def number(text: str) -> int:
        if int(text) < low:
            raise argparse.ArgumentTypeError(f'{text} is too small; give {low} or more')
        return int(text)
    return number


def draw_scene(name: str, seed: int) -> Scene:
    """Draw what the simulator will draw from the same seed, and photograph the goal."""
    task = task_named(name)
    start, goal = task.draw(seed)
    with World() as world:
        world.reset(goal)
        return Scene(task, seed, start, goal, world.render())


def make_folder(parent: Path, seed: int) -> Path:
    """
    Make an empty folder for this run.

    :raises DemoError: when it cannot be made.
    """
    name = time.strftime(f'demo_%Y%m%d_%H%M%S_seed{seed}')
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = parent / name
        folder.mkdir()
    except OSError as error:
        raise DemoError(f'cannot write to {parent} ({error.strerror}); '
                        'name another folder with --out') from error
    return folder.absolute()


def make_launcher(options: argparse.Namespace, goal: Path, folder: Path) -> Launcher:
    """Describe the stack as `stable-crl launch policy` would start it."""
    graph = GRAPHS['policy']
    values = graph.complete({
        'goal': str(goal), 'robot': options.robot, 'checkpoint': options.checkpoint,
        'record': 'true', 'dataset_path': str(folder / 'episodes'), 'task': options.task,
        'operator': 'policy', 'goal_directory': str(folder / 'goals'),
        'sim_task': options.task, 'seed': str(options.seed)})
    log = open(folder / LOG, 'w')  # noqa: SIM115 written to until the process ends

    def output(line: str) -> None:
        print(line, file=log, flush=True)
        if options.verbose:
            print(line, flush=True)
    return Launcher(graph.specs(values), values['namespace'], output=output)


def run(launcher: Launcher, scene: Scene, steps: int) -> DemoMonitor:
    """
    Watch until the goal is reached and stays so, or the steps are used up.

    :raises DemoError: when the policy does not begin to act.
    :raises LaunchError: when a process ends.
    """
    context = Context()
    rclpy.init(context=context)
    monitor = DemoMonitor(scene.task, scene.goal, namespace=launcher.namespace,
                          context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(monitor)

    def spin(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            launcher.poll()
            executor.spin_once(timeout_sec=0.05)
    try:
        with Client(launcher.namespace) as client:
            _wait_for_first_step(monitor, spin)
            client.state('policy')  # finds its services now, not when it shall stop
            while monitor.steps < steps and monitor.settled < SETTLED_STEPS:
                spin(0.1)
            client.transition('policy', 'deactivate')
            spin(REST_S)
            saved, monitor.saved = client.call('episode_logger/stop', monitor.reached)
            if not saved:
                raise DemoError(f'the episode was not saved: {monitor.saved}')
        return monitor
    finally:
        monitor.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown(context=context)


def _wait_for_first_step(monitor: DemoMonitor, spin) -> None:
    end = time.monotonic() + START_LIMIT_S
    while not monitor.steps:
        if time.monotonic() > end:
            raise DemoError(f'the policy took no step within {START_LIMIT_S:g} s')
        spin(0.1)


def last_words(log: Path) -> str:
    """Repeat what the nodes complained of, and say where all they said can be read."""
    lines = [line for line in log.read_text().splitlines() if COMPLAINTS.search(line)]
    return '\n  '.join([f'all that the nodes said is in {log}', *lines[-5:]])


def report(monitor: DemoMonitor, scene: Scene, folder: Path) -> int:
    """Say how it ended, write the pictures, and return the exit status."""
    dataset = Dataset(folder / 'episodes')
    episode: Episode = dataset[dataset.ids[-1]]
    write_sheet(episode, folder / 'sheet.png')
    write_video(episode, folder / 'episode.mp4')
    latencies = [1000 * latency for latency in monitor.latencies]
    limits = ', '.join(f'{1000 * strict:.0f} mm' for strict, _ in scene.task.tolerances.values())
    print(f'{"GOAL REACHED" if monitor.reached else "goal NOT reached"}: seed {scene.seed}, '
          f'{monitor.describe_errors()} from the goal (limit {limits}); '
          f'{monitor.seconds:.1f} s, {monitor.steps} steps')
    print(f'control: {monitor.late} late and {monitor.missed} missed ticks; image capture to '
          f'motion: median {statistics.median(latencies):.0f} ms, worst {max(latencies):.0f} ms')
    print(f'episode: {monitor.saved}\n'
          f'contact sheet: {folder / "sheet.png"}\nvideo: {folder / "episode.mp4"}')
    return 0 if monitor.reached else 1


if __name__ == '__main__':
    sys.exit(main())
