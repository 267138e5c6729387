#!/usr/bin/env python3
"""Swap checkpoints a thousand times under a moving arm, then try every bad file there is."""

import argparse
from collections.abc import Callable
import ctypes
import os
from pathlib import Path
import pickle
import shutil
import struct
import tempfile
import time

from live_stack import at_rate, LATE_S, memory_mib, milliseconds, running, seal, spin
from machine import Standstills
import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from stable_crl_ros import SHIPPED_CHECKPOINT
from stable_crl_ros.checkpoint import load_checkpoint, save_checkpoint
from stable_crl_ros.crl.presets import make_agent, make_config
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.environment import ros_environment
from std_srvs.srv import Trigger
import torch

NAMESPACE = 'swap_soak'
RATE = 20.0  # Hz
SETTLED = 20  # swaps, after which memory is compared with the end
PR_CAPBSET_DROP = 24  # linux/prctl.h
CAN_READ_ALL = 1, 2  # linux/capability.h: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


class Swapper:
    """Ask the running policy for other checkpoints, as `stable-crl checkpoint swap` does."""

    def __init__(self, stack, listener, executor) -> None:
        self._stack, self._listener, self._executor = stack, listener, executor
        self._set = listener.create_client(SetParameters, 'policy/set_parameters')
        self._await = listener.create_client(Trigger, 'policy/await_swap')
        spin(executor, stack, 10.0,
             lambda: self._set.service_is_ready() and self._await.service_is_ready())

    def ask(self, path: Path | str) -> str:
        """Return why a checkpoint is refused at the door, '' when it is not."""
        request = SetParameters.Request(parameters=[
            Parameter('checkpoint_path', value=str(path)).to_parameter_msg()])
        result = self._answer(self._set, request).results[0]
        return '' if result.successful else result.reason

    def swap(self, path: Path | str) -> tuple[bool, str]:
        """Return whether a checkpoint acts now, and what the node says."""
        refusal = self.ask(path)
        return (False, refusal) if refusal else self.wait()

    def wait(self) -> tuple[bool, str]:
        """Return what became of the last checkpoint that was asked for."""
        answer = self._answer(self._await, Trigger.Request())
        return answer.success, answer.message

    def _answer(self, client, request):
        future = client.call_async(request)
        end = time.monotonic() + 180.0
        while not future.done():
            self._executor.spin_once(timeout_sec=0.02)
            if time.monotonic() > end:
                raise TimeoutError(f'{client.srv_name} gave no answer')
        self._stack.poll()
        return future.result()


def soak(swapper: Swapper, stack, listener, executor, pair: list[Path], count: int) -> dict:
    """Swap to and fro; returns what happened."""
    failures, seconds, memory = [], [], {}
    first, told = len(listener.ticks), dict(listener.said['policy: control'])
    start = time.monotonic()
    for number in range(count):
        begun = time.monotonic()
        done, said = swapper.swap(pair[(number + 1) % 2])
        seconds.append(time.monotonic() - begun)
        if not done:
            failures.append(said)
        if number + 1 in (SETTLED, count // 2, count):
            memory[number + 1] = {name: memory_mib(pid) for name, pid in stack.pids.items()}
            memory[number + 1]['checker'] = sum(map(memory_mib, children(stack.pids['policy'])))
    took = time.monotonic() - start
    spin(executor, stack, 1.5)
    now = listener.said['policy: control']
    return {'took': took, 'failures': failures, 'seconds': seconds, 'memory': memory,
            'ticks': listener.ticks[first:],
            **{name: int(now[name]) - int(told[name]) for name in ('missed', 'holds')}}


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that run."""
    return [int(word) for task in Path(f'/proc/{pid}/task').iterdir()
            for word in (task / 'children').read_text().split()]


def report_calm(ticks: list) -> None:
    """Print how the rate is kept while nothing is swapped."""
    lateness = [tick.lateness_s for tick in ticks]
    late = int((np.array(lateness) > LATE_S).sum())
    print(f'before: {len(ticks)} ticks without a swap, {late} later than {1e3 * LATE_S:g} ms '
          f'(median, 99th percentile, worst: {", ".join(milliseconds(lateness))} ms)')


def report_soak(found: dict, count: int) -> None:
    """Print what a soak showed."""
    lateness = [tick.lateness_s for tick in found['ticks']]
    late = int((np.array(lateness) > LATE_S).sum())
    changes = sum(a.checkpoint != b.checkpoint
                  for a, b in zip(found['ticks'], found['ticks'][1:], strict=False))
    print(f'{count} swaps in {found["took"]:.0f} s at {RATE:g} Hz: {len(found["failures"])} '
          f'refused, {changes} changes of checkpoint among {len(found["ticks"])} ticks; '
          f'{found["missed"]} missed, {found["holds"]} held, {late} later than '
          f'{1e3 * LATE_S:g} ms')
    print('\n| | median | 99th percentile | worst |\n|---|---|---|---|')
    for name, values in (('tick later than due (ms)', lateness),
                         ('decode, resize, encode, act (ms)',
                          [tick.inference_s for tick in found['ticks']]),
                         ('swap, from asking to acting (ms)', found['seconds'])):
        print(f'| {name} | {" | ".join(milliseconds(values))} |')
    columns = sorted(found['memory'])
    print(f'\n| memory (MiB) after swaps | {" | ".join(map(str, columns))} |\n'
          f'|---{len(columns) * "|---"}|')
    for name in found['memory'][count]:
        sizes = (f'{found["memory"][column].get(name, 0.0):.1f}' for column in columns)
        print(f'| {name} | {" | ".join(sizes)} |')
    for failure in found['failures'][:5]:
        print(f'refused: {failure}')


def truncated(path: Path, good: Path) -> None:
    path.write_bytes(good.read_bytes()[:-1000])


def being_written(path: Path, good: Path) -> None:
    whole = good.read_bytes()
    with open(path, 'wb') as file:  # space is there already, the weights are not
        file.truncate(len(whole))
        file.write(whole[:len(whole) // 2])


def changed_byte(path: Path, good: Path) -> None:
    whole = bytearray(good.read_bytes())
    whole[-50] ^= 1
    path.write_bytes(whole)


def resaved(path: Path, good: Path, change: Callable[[dict, dict], None]) -> None:
    checkpoint = load_checkpoint(good)
    tensors = {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}
    metadata = {key: value for key, value in checkpoint.metadata.items() if key != 'sha256'}
    change(tensors, metadata)
    save_checkpoint(path, tensors, metadata)


def wrong_architecture(path: Path, good: Path) -> None:
    resaved(path, good, lambda tensors, metadata: metadata['config'].update(
        actor_hidden=[64, 64]))


def unknown_algorithm(path: Path, good: Path) -> None:
    resaved(path, good, lambda tensors, metadata: metadata.update(algorithm='dreamer'))


def other_rate(path: Path, good: Path) -> None:
    resaved(path, good, lambda tensors, metadata: metadata.update(control_rate=5.0))


def wrong_actions(path: Path, good: Path) -> None:
    name, config = make_config('laptop')
    agent = make_agent(name, config, action_dim=6)
    metadata = {key: value for key, value in load_checkpoint(good).metadata.items()
                if key != 'sha256'}
    save_checkpoint(path, agent.tensors(), metadata)


def nan_weights(path: Path, good: Path) -> None:
    # `save_checkpoint` refuses them: written over the sound ones.
    whole = bytearray(good.read_bytes())
    whole[-400:] = struct.pack('<f', float('nan')) * 100
    path.write_bytes(whole)


def exploding(path: Path, good: Path) -> None:
    resaved(path, good, lambda tensors, metadata: tensors.update({
        name: torch.full_like(tensor, 3e38) for name, tensor in tensors.items()
        if name.startswith('actor.head')}))


def saturating(path: Path, good: Path) -> None:
    resaved(path, good, lambda tensors, metadata: tensors.update({
        name: 1e3 * tensor for name, tensor in tensors.items()
        if name.startswith('actor.head.output')}))


def renamed_pickle(path: Path, good: Path) -> None:
    path.write_bytes(pickle.dumps({'weights': [1.0] * 1000}))


def four_gigabytes(path: Path, good: Path) -> None:
    shutil.copy(good, path)
    os.truncate(path, 4_000_000_000)  # sparse


def huge_header(path: Path, good: Path) -> None:
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', 90_000_000) + b'{')
        file.truncate(90_000_100)


def unreadable(path: Path, good: Path) -> None:
    shutil.copy(good, path)
    path.chmod(0)


def missing(path: Path, good: Path) -> None:
    pass


def directory(path: Path, good: Path) -> None:
    path.mkdir()


def symlink_loop(path: Path, good: Path) -> None:
    path.symlink_to(path.name)


def named_pipe(path: Path, good: Path) -> None:
    os.mkfifo(path)


ABUSE = {
    'truncated file': truncated, 'file still being written': being_written,
    'one changed bit': changed_byte, 'wrong architecture': wrong_architecture,
    'unknown algorithm': unknown_algorithm, 'wrong action dimension': wrong_actions,
    'another control rate': other_rate, 'NaN weights': nan_weights,
    'weights that overflow': exploding, 'weights that saturate': saturating,
    'a pickle renamed .safetensors': renamed_pickle, 'a 4 GB file': four_gigabytes,
    'a 90 MB header': huge_header, 'a path that does not exist': missing,
    'a directory': directory, 'a symlink loop': symlink_loop, 'a named pipe': named_pipe,
    'permission denied': unreadable,
}


def abuse(swapper: Swapper, listener, executor, stack, good: Path, folder: Path) -> list[tuple]:
    """Try every bad file; returns rows of the table."""
    rows = []
    for what, spoil in ABUSE.items():
        path = folder / f'{what.replace(" ", "_")}.safetensors'
        spoil(path, good)
        rows.append((what, *attempt(swapper, listener, executor, stack, path)))
        if path.is_file() and not path.is_symlink():
            path.unlink()
    path = folder / 'gone.safetensors'
    shutil.copy(good, path)

    def ask_and_delete():
        refusal = swapper.ask(path)
        path.unlink()
        return (False, refusal) if refusal else swapper.wait()
    rows.append(('deleted after the door',
                 *attempt(swapper, listener, executor, stack, path, ask_and_delete)))
    return rows


def obey_permissions() -> None:
    """Let what this process starts read only what it may, also as root."""
    for capability in CAN_READ_ALL:
        if ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            print(f'permissions are not obeyed: {os.strerror(ctypes.get_errno())}')


def attempt(swapper, listener, executor, stack, path, how=None) -> tuple[str, str, int, int]:
    """Ask for one file; returns answer, time, ticks and how many of them were late."""
    spin(executor, stack, 0.5)
    first, begun = len(listener.ticks), time.monotonic()
    done, said = how() if how else swapper.swap(path)
    seconds = time.monotonic() - begun
    spin(executor, stack, 0.5)
    lateness = np.array([tick.lateness_s for tick in listener.ticks[first:]])
    return (('taken: ' if done else '') + said.replace(str(path.parent), '...'),
            f'{1e3 * seconds:.0f}', len(lateness), int((lateness > LATE_S).sum()))


def main() -> int:
    """Swap, abuse, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--swaps', type=int, default=1000)
    parser.add_argument('--calm', type=float, default=60.0, help='seconds without a swap before '
                        'them, to compare with')
    parser.add_argument('--no-abuse', action='store_true', help='leave out the bad files')
    parser.add_argument('--robot', default='sim', choices=('sim', 'mock'))
    options = parser.parse_args()
    os.environ.update(ros_environment())
    if not os.geteuid():
        obey_permissions()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pair = [at_rate(folder / 'a.safetensors', SHIPPED_CHECKPOINT, RATE),
                at_rate(folder / 'b.safetensors', SHIPPED_CHECKPOINT, RATE,
                        **{'actor.head.output.bias': 1e-3})]
        values = {'goal': 'drawer_open.png', 'robot': options.robot, 'record': 'true',
                  'namespace': NAMESPACE, 'control_rate': str(RATE), 'checkpoint': str(pair[0]),
                  'dataset_path': str(folder / 'episodes'), 'image_codec': 'jpeg:95'}
        if options.robot == 'mock':
            from live_stack import camera_folder
            camera_folder(folder / 'camera')
            values['camera_source'] = str(folder / 'camera')
        with Standstills() as standstills, running(values) as (stack, listener, executor):
            swapper = Swapper(stack, listener, executor)
            spin(executor, stack, 3.0)
            first, _ = len(listener.ticks), standstills.take()
            spin(executor, stack, options.calm)
            report_calm(listener.ticks[first:])
            print(standstills.describe(LATE_S))
            found = soak(swapper, stack, listener, executor, pair, options.swaps)
            stood = standstills.describe(LATE_S)
            seal(executor, stack, listener)
            report_soak(found, options.swaps)
            print(f'\n{stood}')
            report_episode(folder / 'episodes')
            if options.no_abuse:
                return 0
            bad = folder / 'bad'
            bad.mkdir()
            told = dict(listener.said['policy: control'])
            standstills.take()
            rows = abuse(swapper, listener, executor, stack, pair[0], bad)
            spin(executor, stack, 1.5)
            missed = int(listener.said['policy: control']['missed']) - int(told['missed'])
            stood = standstills.describe(LATE_S)
        print('\n| asked for | answer | after (ms) | ticks meanwhile | later than 5 ms |\n'
              '|---|---|---|---|---|')
        for row in rows:
            print('| ' + ' | '.join(map(str, row)) + ' |')
        print(f'\n{missed} ticks missed during all of these; {stood}')
    return 0


def report_episode(path: Path) -> None:
    """Print whether every recorded step names its checkpoint."""
    episode = Dataset(path)[0]
    acted = episode['mode'] == 1
    unnamed = int((episode['checkpoint'][acted] == 0).sum())
    changes = int((np.diff(episode['checkpoint'][acted].astype(np.int64)) != 0).sum())
    moved = np.ptp(episode['joint_positions'], axis=0).max()
    print(f'\nrecorded: {acted.sum()} steps of the policy, {unnamed} without a checkpoint, '
          f'{changes} changes of checkpoint, {episode.attrs["dropped"]} dropped; joints moved by '
          f'up to {moved:.2f} rad')


if __name__ == '__main__':
    raise SystemExit(main())
