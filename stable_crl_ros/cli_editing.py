"""`stable-crl episodes`: the verbs that change datasets."""

import argparse

from stable_crl_ros.cli_options import add_dry_run, add_json, add_verb, answer, progress_bar

DATASET = 'folder of a dataset'
EPISODES = "numbers, ranges such as 5-9, 'last' or 'all'"
VERDICTS = {'yes': True, 'no': False, 'unknown': None}
TEXTS = ('task', 'operator', 'notes', 'instruction')


def add_verbs(verbs) -> None:
    """Add the verbs that change datasets."""
    _add_repair(verbs)
    _add_label(verbs)
    _add_discarding(verbs)
    _add_compact(verbs)
    _add_trim(verbs)
    _add_split(verbs)
    _add_merge(verbs)


def _add_repair(verbs) -> None:
    verb = add_verb(verbs, 'repair', 'seal what a crash cut off, and rebuild the index', _repair, (
        'The exit status is 1 when something stays damaged.'))
    verb.add_argument('datasets', nargs='+', metavar='DATASET', help=DATASET)
    add_dry_run(verb)
    add_json(verb)


def _repair(chosen) -> int:
    from stable_crl_ros.data.repair import repair
    repairs = [repair(path, chosen.dry_run) for path in chosen.datasets]
    text = '\n'.join(line for item in repairs for line in item.lines())
    answer(chosen, {'repairs': [item.to_dict() for item in repairs]}, text)
    return 0 if all(item.sound for item in repairs) else 1


def _add_selection(verb: argparse.ArgumentParser) -> None:
    verb.add_argument('dataset', help=DATASET)
    verb.add_argument('episodes', nargs='+', metavar='EPISODE', help=EPISODES)


def _add_by(verb: argparse.ArgumentParser) -> None:
    verb.add_argument('--by', metavar='NAME', help='who says so (default: who is logged in)')


def _by(chosen) -> str:
    from stable_crl_ros.data.labels import checked_name, LabelError
    try:
        return checked_name(chosen.by)
    except LabelError as error:
        raise LabelError(f'{error} (--by NAME)') from error


def _select(chosen, discarded: bool = False):
    from stable_crl_ros.data.dataset import Dataset
    from stable_crl_ros.data.selection import discarded_ids, select
    dataset = Dataset(chosen.dataset)
    known = discarded_ids(dataset) if discarded else dataset.ids
    return dataset, select(chosen.episodes, known, chosen.dataset)


def _add_label(verbs) -> None:
    verb = add_verb(verbs, 'label', 'say how episodes ended and what they are', _label, (
        'What is not named stays. What it was before, who changed it and when is kept in the '
        'episode (`info` shows it).'))
    _add_selection(verb)
    verb.add_argument('--success', choices=VERDICTS, help='whether the task was done')
    verb.add_argument('--task', metavar='NAME', help='such as open_drawer')
    verb.add_argument('--instruction', metavar='TEXT', help='in words, such as "open the drawer"')
    verb.add_argument('--operator', metavar='NAME', help='who recorded it')
    verb.add_argument('--notes', metavar='TEXT', help='whatever should be remembered')
    verb.add_argument('--tags', nargs='*', metavar='WORD', help='instead of those it has')
    _add_by(verb)
    add_dry_run(verb)
    add_json(verb)


def _label(chosen) -> None:
    from stable_crl_ros.data.labels import checked_labels, LabelError, relabel
    labels = {name: getattr(chosen, name) for name in (*TEXTS, 'tags')
              if getattr(chosen, name) is not None}
    if chosen.success:
        labels['success'] = VERDICTS[chosen.success]
    if not labels:
        raise LabelError('nothing to change: give --success, --tags, '
                         f'{", ".join("--" + name for name in TEXTS)}')
    labels, by = checked_labels(labels), _by(chosen)
    dataset, numbers = _select(chosen)
    changes = []
    for number in numbers:
        before = dataset[number].attrs
        changed = {name: [before[name], value] for name, value in labels.items()
                   if before[name] != value}
        if changed and not chosen.dry_run:
            relabel(dataset, number, by, **labels)
        changes.append({'episode': number, 'changed': changed})
    answer(chosen, {'dataset': chosen.dataset, 'dry_run': chosen.dry_run, 'episodes': changes},
           '\n'.join(_change_line(change) for change in changes))


def _change_line(change: dict) -> str:
    changes = ', '.join(f'{name} {old!r} -> {new!r}'
                        for name, (old, new) in change['changed'].items())
    return f'episode {change["episode"]}: {changes or "is so already"}'


def _add_discarding(verbs) -> None:
    verb = add_verb(verbs, 'discard', 'leave episodes out of everything', _discard, (
        'They stay on disk: `restore` brings them back, until `compact` deletes them.'))
    _add_selection(verb)
    verb.add_argument('--why', default='', metavar='TEXT', help='such as "the arm was bumped"')
    _add_by(verb)
    add_dry_run(verb)
    add_json(verb)
    verb = add_verb(verbs, 'restore', 'bring discarded episodes back', _restore)
    _add_selection(verb)
    _add_by(verb)
    add_dry_run(verb)
    add_json(verb)


def _discard(chosen) -> None:
    from stable_crl_ros.data.labels import discard
    by, (dataset, numbers) = _by(chosen), _select(chosen)
    for number in () if chosen.dry_run else numbers:
        discard(dataset, number, by, chosen.why)
    _tell(chosen, 'discarded', numbers)


def _restore(chosen) -> None:
    from stable_crl_ros.data.labels import restore
    by, (dataset, numbers) = _by(chosen), _select(chosen, discarded=True)
    for number in () if chosen.dry_run else numbers:
        restore(dataset, number, by)
    _tell(chosen, 'restored', numbers)


def _tell(chosen, done: str, numbers: list[int]) -> None:
    from stable_crl_ros.data.selection import describe
    answer(chosen, {'dataset': chosen.dataset, done: numbers, 'dry_run': chosen.dry_run},
           f'{"would be " if chosen.dry_run else ""}{done}: episode {describe(numbers)}')


def _add_compact(verbs) -> None:
    verb = add_verb(verbs, 'compact', 'delete the discarded episodes for good', _compact)
    verb.add_argument('dataset', help=DATASET)
    add_dry_run(verb)
    add_json(verb)


def _compact(chosen) -> None:
    from stable_crl_ros.data.dataset import Dataset
    from stable_crl_ros.data.labels import compact
    found = compact(Dataset(chosen.dataset), chosen.dry_run)
    done = 'would be deleted' if chosen.dry_run else 'deleted'
    lines = [f'{done}: {entry["name"]}, {entry["steps"]} steps, {entry["bytes"] / 1e6:.1f} MB '
             f'({entry["discarded"].get("why") or "no reason given"})' for entry in found]
    answer(chosen, {'dataset': chosen.dataset, 'dry_run': chosen.dry_run, 'deleted': found},
           '\n'.join(lines) or f'{chosen.dataset}: nothing is discarded')


def _add_trim(verbs) -> None:
    verb = add_verb(verbs, 'trim', 'cut the beginning or the end off episodes', _trim, (
        'Each becomes a new episode, without encoding its images anew; the long one is '
        'discarded, and `restore` brings it back.'))
    _add_selection(verb)
    what = verb.add_mutually_exclusive_group(required=True)
    what.add_argument('--keep', metavar='FIRST-LAST', type=_stretch,
                      help='steps to keep, such as 5-40, both included')
    what.add_argument('--still', action='store_true',
                      help='cut the standstill at the beginning and the end')
    verb.add_argument('--margin', type=int, default=2, metavar='STEPS',
                      help='standstill that --still leaves (default: %(default)s)')
    _add_by(verb)
    add_dry_run(verb)
    add_json(verb)


def _stretch(word: str) -> tuple[int, int]:
    first, _, last = word.partition('-')
    if not (first.isdecimal() and last.isdecimal()):
        raise argparse.ArgumentTypeError(f'{word!r} is not of the form FIRST-LAST, such as 5-40')
    return int(first), int(last)


def _trim(chosen) -> None:
    from stable_crl_ros.data.editing import moving_steps, trim
    by, (dataset, numbers) = _by(chosen), _select(chosen)
    keep = {number: chosen.keep or moving_steps(dataset[number], chosen.margin)
            for number in numbers}
    whole = [number for number in numbers
             if chosen.still and keep[number] == (0, dataset[number].steps - 1)]
    wanted = [number for number in numbers if number not in whole]
    # All are looked at first: one that is refused must not leave half of them trimmed.
    done = [trim(dataset, number, keep[number], by, dry_run=True) for number in wanted]
    if not chosen.dry_run:
        with progress_bar('episode', 'trimming') as show:
            for count, number in enumerate(wanted):
                done[count] = trim(dataset, number, keep[number], by)
                show(count + 1, len(wanted))
    lines = [f'episode {copy.episode}: steps {copy.first}-{copy.last} '
             + ('would be kept' if copy.number is None else f'are episode {copy.number}')
             for copy in done]
    lines += [f'episode {number}: moves from beginning to end' for number in whole]
    answer(chosen, {'dataset': chosen.dataset, 'dry_run': chosen.dry_run, 'whole': whole,
                    'trimmed': [copy.to_dict() for copy in done]}, '\n'.join(lines))


def _add_split(verbs) -> None:
    verb = add_verb(verbs, 'split', 'draw episodes for validation', _split, (
        'Whole episodes, from every task its share. The file is what `stable-crl train '
        '--validation FILE` reads; nothing is copied unless --folders is given.'))
    verb.add_argument('datasets', nargs='+', metavar='DATASET', help=DATASET)
    verb.add_argument('--fraction', type=float, default=0.1, metavar='SHARE',
                      help='of the episodes, for validation (default: %(default)s)')
    verb.add_argument('--seed', type=int, default=0, help='of the draw (default: 0)')
    verb.add_argument('--out', metavar='FILE', help='where the split is written (default: '
                      'split.json here, nothing with --folders)')
    verb.add_argument('--folders', nargs=2, metavar=('TRAINING', 'VALIDATION'),
                      help='copy the episodes into these two datasets')
    add_dry_run(verb)
    add_json(verb)


def _split(chosen) -> None:
    from stable_crl_ros.data.splits import split_episodes, summarise, write_split
    from stable_crl_ros.data.union import open_datasets
    opened = open_datasets(chosen.datasets).datasets
    split = split_episodes(opened, chosen.fraction, chosen.seed)
    lines, out = [summarise(split)], chosen.out or (None if chosen.folders else 'split.json')
    for part, folder in zip(('training', 'validation'), chosen.folders or (), strict=False):
        wanted = [(dataset, item[part])
                  for dataset, item in zip(opened, split['datasets'], strict=True)]
        lines.append(_copy(chosen, wanted, folder)[1])
    if out and not chosen.dry_run:
        write_split(split, out)
        lines.append(f'wrote {out}')
    answer(chosen, {**split, 'dry_run': chosen.dry_run, 'file': out}, '\n'.join(lines))


def _add_merge(verbs) -> None:
    verb = add_verb(verbs, 'merge', 'copy the episodes of datasets into one', _merge, (
        'What the target holds already is left out, so an interrupted merge goes on when it is '
        'repeated. Images are not encoded anew where both datasets store them alike.'))
    verb.add_argument('sources', nargs='+', metavar='DATASET', help=DATASET)
    verb.add_argument('--into', required=True, metavar='DATASET',
                      help='made when it is not there')
    verb.add_argument('--image-codec', metavar='CODEC', help="of a new dataset: 'lossless' or "
                      "'jpeg:QUALITY' (default: that of the first source)")
    add_dry_run(verb)
    add_json(verb)


def _merge(chosen) -> None:
    from stable_crl_ros.data.union import open_datasets
    opened = open_datasets(chosen.sources).datasets
    copies, text = _copy(chosen, [(dataset, dataset.ids) for dataset in opened], chosen.into,
                         chosen.image_codec)
    answer(chosen, {'into': chosen.into, 'dry_run': chosen.dry_run,
                    'copies': [copy.to_dict() for copy in copies]}, text)


def _copy(chosen, wanted: list[tuple], folder: str, codec: str | None = None) -> tuple[list, str]:
    """Copy episodes to a dataset, made when it is not there; returns them and a line."""
    from stable_crl_ros.data.editing import merge, open_target
    target = open_target(folder, [dataset for dataset, _ in wanted], codec, chosen.dry_run)
    with progress_bar('episode', f'copying to {folder}') as show:
        copies = merge(wanted, target, show, chosen.dry_run)
    new = sum(not copy.already for copy in copies)
    steps = sum(copy.last - copy.first + 1 for copy in copies if not copy.already)
    empty = sum(len(numbers) for _, numbers in wanted) - len(copies)
    return copies, (f'{folder}: {new} episodes, {steps} steps '
                    f'{"would be copied" if chosen.dry_run else "copied"}'
                    + (f', {len(copies) - new} were there' if len(copies) > new else '')
                    + (f', {empty} without a step left out' if empty else ''))
