"""`stable-crl episodes`: the verbs that change datasets."""

from stable_crl_ros.cli_options import add_dry_run, add_json, add_verb, answer

DATASET = 'folder of a dataset'


def add_verbs(verbs) -> None:
    """Add the verbs that change datasets."""
    _add_repair(verbs)


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
