"""With which settings the runs of a suite were trained, and what has been changed since."""

from collections.abc import Iterable, Mapping
import hashlib
import json
from pathlib import Path

from stable_crl_ros.checkpoint import peek_checkpoint
from stable_crl_ros.crl.run_folder import differences, LATEST
from stable_crl_ros.durable import write_atomic
from stable_crl_ros.experiments.plan import RunSpec

NOTE = 'settings.json'  # of a run that was made elsewhere: beside its scores


def read_trained(path: Path) -> dict | None:
    """
    Read what a run was trained with: its algorithm, and every setting by name.

    :param path: its folder.
    :returns: None where nothing says it.
    :raises stable_crl_ros.checkpoint.CheckpointError: for a checkpoint that cannot be read.
    """
    if (path / LATEST).exists():
        metadata = peek_checkpoint(path / LATEST)
        return {'algorithm': metadata['algorithm'], **metadata['config']}
    return json.loads((path / NOTE).read_text()) if (path / NOTE).exists() else None


def note_trained(path: Path, trained: Mapping) -> None:
    """Note in a run's folder what it was trained with elsewhere."""
    write_atomic(path / NOTE, json.dumps(dict(trained), indent=1).encode())


def changed_since(trained: Mapping, run: RunSpec) -> list[str]:
    """
    Name what the plan of this version gives other values than a run was trained with.

    A setting that is new since then counts as its default, and one that is gone for nothing.

    :param trained: from `read_trained`, of any version.
    """
    from stable_crl_ros.crl.presets import complete_settings, make_config
    algorithm, config = make_config(run.preset, dict(run.overrides))
    now = {'algorithm': algorithm, **config.to_dict()}
    then = complete_settings(algorithm, trained)
    return differences({name: then.get(name) for name in now}, now)


def describe_trained(folder: Path, keys: Iterable[str]) -> dict:
    """
    Put what runs were trained with into one entry of a report's JSON, each variety once.

    It holds the settings themselves. A mark made of them would not do: one of all settings
    changes with every setting that is added, one of those that are not at their default does not
    change with a default.

    :param folder: of the suite.
    :param keys: of its runs.
    """
    marks, settings = {}, {}
    for key in sorted(set(keys)):
        trained = read_trained(folder / 'runs' / key)
        if trained is not None:
            text = json.dumps(trained, sort_keys=True)
            marks[key] = hashlib.sha256(text.encode()).hexdigest()[:12]
            settings[marks[key]] = trained
    return {'table': 'settings', 'label': '', 'runs': {}, 'trained': marks, 'settings': settings}


def read_described(entries: Iterable[Mapping]) -> dict[str, dict]:
    """
    Read what `describe_trained` wrote, by the key of the run; none of an older version's report.

    :param entries: of the report's JSON.
    :raises KeyError, TypeError, ValueError: for an entry that does not hold what it refers to.
    """
    return {key: dict(entry['settings'][mark]) for entry in entries
            for key, mark in entry.get('trained', {}).items()}
