"""What a dataset holds, and what is known of one episode: plain values, and tables of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.data.health import told_pauses
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.data.selection import discarded_ids
from stable_crl_ros.robot.safety import flag_names

COLUMNS = ('episode', 'when', 'steps', 'time', 'success', 'task', 'operator', 'cameras', 'marks')
NUMBERS = ('episode', 'steps', 'time')  # to the right
VERDICTS = {True: 'yes', False: 'no', None: '-'}
LONGEST = 32  # characters of a task or an operator in a table
UNTOLD = {'checksums', 'cameras', 'unfinished_step', 'versions', 'label_history', 'created_ns'}


@dataclass(frozen=True)
class Filter:
    """
    Which episodes to list; what is None or False does not matter.

    :param task: text the task contains.
    :param success: 'yes', 'no' or 'unknown'.
    """

    task: str | None = None
    success: str | None = None
    tag: str | None = None
    hide_discarded: bool = False

    def takes(self, item: Mapping) -> bool:
        """Tell whether an episode's summary is wanted."""
        verdict = {True: 'yes', False: 'no', None: 'unknown'}[item['success']]
        return ((self.task is None or self.task in item['task'])
                and self.success in (None, verdict)
                and (self.tag is None or self.tag in item['tags'])
                and not (self.hide_discarded and item['discarded']))


def list_episodes(path: str | Path, wanted: Filter | None = None) -> dict:
    """
    Return what a dataset holds.

    :param wanted: leave other episodes out.
    :returns: plain values: 'episodes' (one summary each, discarded ones too), 'damaged',
        'unsealed', and the totals of what counts.
    :raises DatasetError: when it is no dataset.
    """
    dataset = Dataset(path)
    broken = dataset.broken
    numbers = sorted({*dataset.ids, *discarded_ids(dataset)})
    episodes = [summarise(dataset[number]) for number in numbers
                if dataset.episode_path(number).name not in broken]
    episodes = [item for item in episodes if wanted is None or wanted.takes(item)]
    counted = [item for item in episodes if not item['discarded']]
    return {
        'path': str(path), 'episodes': episodes,
        'damaged': [{'name': name, 'reason': reason} for name, reason in broken.items()],
        'unsealed': [{'name': item.path.name, 'state': item.state, 'message': item.message}
                     for item in dataset.unsealed()],
        'count': len(counted), 'steps': sum(item['steps'] for item in counted),
        'seconds': sum(item['seconds'] for item in counted),
        'successes': sum(item['success'] is True for item in counted),
        'judged': sum(item['success'] is not None for item in counted)}


def summarise(episode: Episode) -> dict:
    """Return what a list shows of an episode."""
    attrs = episode.attrs
    names = ('task', 'instruction', 'operator', 'source', 'success', 'control_rate', 'created_ns')
    return {'episode': episode.id, 'steps': episode.steps, 'seconds': seconds(attrs),
            **{name: attrs[name] for name in names}, 'tags': attrs.get('tags', []),
            'cameras': attrs['cameras'], 'discarded': bool(attrs.get('discarded')),
            'marks': marks(attrs)}


def marks(attributes: Mapping) -> list[str]:
    """Return what is out of the ordinary about an episode, in a few words each."""
    found = []
    for name, why in (('discarded', (attributes.get('discarded') or {}).get('why')),
                      ('interrupted', attributes.get('ended_why')),
                      ('degraded', attributes.get('degraded_why'))):
        if attributes.get(name):
            found.append(f'{name} ({why})' if why else name)
    for name in ('dropped', 'stale'):
        if attributes.get(name):
            found.append(f'{attributes[name]} {name}')
    if told := told_pauses(attributes):
        found.append(told)
    return found + [f'#{tag}' for tag in attributes.get('tags', [])]


def seconds(attributes: Mapping) -> float:
    """Return how long an episode lasted, by its measured rate where there is one."""
    rate = attributes.get('rate_hz') or attributes['control_rate']
    periods = attributes['steps'] - attributes.get('pauses', 0)  # a pause stands for one
    return periods / rate + attributes.get('pause_s', 0.0) if rate else 0.0


def format_list(listed: Mapping) -> str:
    """Return a table of what `list_episodes` gives."""
    table = [COLUMNS, *(_cells(item) for item in listed['episodes'])]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ['  '.join(text.rjust(width) if name in NUMBERS else text.ljust(width)
                       for name, text, width in zip(COLUMNS, row, widths, strict=True)).rstrip()
             for row in table]
    lines.append(f'{listed["count"]} episodes, {listed["steps"]} steps, '
                 f'{format_time(listed["seconds"])}; {listed["successes"]} of '
                 f'{listed["judged"]} judged ones successful')
    lines += [f'damaged: {item["reason"]}' for item in listed['damaged']]
    lines += [f'not sealed: {item["message"]}' for item in listed['unsealed']]
    return '\n'.join(lines)


def _cells(item: Mapping) -> tuple[str, ...]:
    when = datetime.fromtimestamp(item['created_ns'] / 1e9)
    return (str(item['episode']), f'{when:%Y-%m-%d %H:%M}', str(item['steps']),
            f'{item["seconds"]:.1f}', VERDICTS[item['success']], shorten(item['task']),
            shorten(item['operator']), format_cameras(item['cameras']), ', '.join(item['marks']))


def shorten(text: str, longest: int = LONGEST) -> str:
    """Return at most so many characters of a text."""
    return text if len(text) <= longest else f'{text[:longest - 1]}…'


def format_cameras(cameras: Mapping) -> str:
    """Return every camera with its size."""
    return ', '.join(f'{name} {width}x{height}'
                     for name, (height, width) in sorted(cameras.items()))


def format_time(duration: float) -> str:
    """Return seconds as hours, minutes and seconds, as much of them as matters."""
    minutes, rest = divmod(round(duration), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours} h {minutes} min' if hours else f'{minutes} min {rest} s' if minutes else \
        f'{duration:.1f} s'


def describe_episode(episode: Episode) -> dict:
    """
    Return all that is known of one episode but its arrays, in plain values.

    :raises EpisodeError: when it cannot be read.
    """
    modes = np.bincount(episode['mode'], minlength=len(Mode))
    flags = episode['flags']
    bits = {name: int(((flags >> bit) & 1).sum()) for bit in range(32)
            for name in flag_names(1 << bit)}
    return {
        'path': str(episode.path), **episode.attrs, 'seconds': seconds(episode.attrs),
        'marks': marks(episode.attrs),
        'bytes': sum(file.stat().st_size for file in episode.path.rglob('*') if file.is_file()),
        'modes': {Mode(mode).name.lower(): int(count) for mode, count in enumerate(modes)
                  if count and mode <= max(Mode)},
        'interventions': int(episode['intervention'].sum()),
        'done_at': done_at(episode),
        'flags': {name: count for name, count in bits.items() if count},
        'clipped_or_refused': int((flags != 0).sum())}


def done_at(episode: Episode) -> list[int]:
    """Return the steps with which the policy began to count a goal as reached."""
    told = np.flatnonzero(episode['checkpoint'])  # an operator's steps say nothing of it
    began = np.diff(episode['done'][told].astype(int), prepend=0) > 0
    return told[began].tolist()


def format_description(known: Mapping) -> str:
    """Return what `describe_episode` gives, one line per fact."""
    told = {name: value for name, value in known.items()
            if name not in UNTOLD and value not in ('', None, [], {})}
    told['recorded'] = f'{datetime.fromtimestamp(known["created_ns"] / 1e9):%Y-%m-%d %H:%M:%S}'
    told['cameras'] = format_cameras(known['cameras'])
    told['seconds'] = f'{known["seconds"]:.1f}'
    if known.get('done_at'):
        told['done_at'] = ', '.join(f'step {step} ({step / known["steps"] * known["seconds"]:.1f} '
                                    f's)' for step in known['done_at'])
    for name in ('modes', 'flags', 'drops', 'versions'):
        if known.get(name):
            told[name] = ', '.join(f'{key} {value}' for key, value in known[name].items())
    lines = [f'{name}: {value}' for name, value in told.items()]
    for change in known.get('label_history', []):
        when = datetime.fromtimestamp(change['when_ns'] / 1e9)
        changes = ', '.join(f'{name} {old!r} -> {new!r}'
                            for name, (old, new) in change['changed'].items())
        lines.append(f'changed {when:%Y-%m-%d %H:%M} by {change["by"]}: {changes}')
    return '\n'.join(lines)
