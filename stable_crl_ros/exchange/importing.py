"""Bring recordings of other formats into a dataset: look at all of them first, then write."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType

from stable_crl_ros.data.codecs import JPEG
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.labels import discard
from stable_crl_ros.data.schema import NO_ACTIONS
from stable_crl_ros.exchange.options import ImportOptions
from stable_crl_ros.exchange.recording import ExchangeError, Item, Recording
from stable_crl_ros.images import ImageSpec

FORMATS = {  # name -> module with find, LAYOUT, and what tells it: PATTERNS and SUFFIXES
    'bridge-npz': 'bridge_npz', 'bridge-raw': 'bridge_raw', 'bridge-numpy': 'bridge_numpy',
    'rlds': 'rlds', 'rosbag': 'rosbag', 'frames': 'frames',
}
_BRIDGE = ('bridge-npz', 'bridge-raw', 'bridge-numpy', 'rlds')
_MEANT_FOR = {'lag': ('bridge-raw',), 'actions': _BRIDGE, 'gripper': _BRIDGE,
              'state': ('rlds',),
              **dict.fromkeys(('topics', 'ros_actions', 'max_image_age'), ('rosbag',))}
NEW, KNOWN, BAD = 'new', 'known', 'bad'
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Finding:
    """
    One recording of the source.

    :param state: 'new', 'known' (in the dataset already, or twice in the source) or 'bad'.
    :param why: where it is known from, or what is wrong.
    :param cameras: camera -> height and width, pixels.
    """

    name: str
    state: str
    why: str = ''
    steps: int = 0
    cameras: dict[str, tuple[int, int]] = field(default_factory=dict)
    instruction: str = ''
    actions: bool = True


@dataclass(frozen=True)
class Imported:
    """
    What an import did.

    :param format: of the source, one of `FORMATS`.
    :param episodes: numbers of the new episodes, in the order of the source.
    """

    format: str
    findings: list[Finding]
    episodes: list[int] = field(default_factory=list)

    def count(self, state: str) -> int:
        """Return how many recordings were new, known or bad."""
        return sum(finding.state == state for finding in self.findings)

    def to_dict(self) -> dict:
        """Return plain values."""
        return asdict(self)


def examine(source: str | Path, dataset_path: str | Path, options: ImportOptions | None = None,
            format_name: str = 'auto', progress: Progress | None = None) -> Imported:
    """
    Look at every recording of a source, and every image in it; write nothing.

    :param progress: called with what is being done, and how many of how many are.
    :raises ExchangeError: when there is none, or the format is unknown or ambiguous.
    """
    options = options or ImportOptions()
    format_name, items = find_recordings(source, options, format_name)
    known = _known(dataset_path)
    findings = []
    for number, item in enumerate(items):
        findings.append(_look_at(item, known, options))
        if progress:
            progress('checking', number + 1, len(items))
    return Imported(format_name, findings)


def import_recordings(source: str | Path, dataset_path: str | Path,
                      options: ImportOptions | None = None, format_name: str = 'auto', *,
                      image_codec: str | None = None, skip_bad: bool = False,
                      progress: Progress | None = None) -> Imported:
    """
    Import every recording that the dataset does not hold yet.

    Every one is looked at before any is written. An episode is written whole or not at all; an
    interrupted import goes on when it is called again.

    :param image_codec: of a dataset that is made; see `codecs.ImageCodec`.
    :param skip_bad: leave bad recordings out instead of refusing all.
    :raises ExchangeError: for a bad recording, what `examine` refuses, or nothing to import.
    :raises DatasetError: when the dataset cannot be written.
    """
    options = options or ImportOptions()
    result = examine(source, dataset_path, options, format_name, progress)
    bad = [finding for finding in result.findings if finding.state == BAD]
    if bad and (not skip_bad or len(bad) == len(result.findings)):
        more = f' ({len(bad)} of {len(result.findings)} are bad)' if len(bad) > 1 else ''
        raise ExchangeError(f'{bad[0].why}{more}; nothing was imported'
                            f'{"" if skip_bad else ", --skip-bad leaves such ones out"}')
    _, items = find_recordings(source, options, result.format)
    new = [item for item, finding in zip(items, result.findings, strict=True)
           if finding.state == NEW]
    if not new:
        return result
    dataset = Dataset(dataset_path, create=True, image_codec=image_codec)
    with dataset.lock():
        _discard_cut_off(dataset)
        known = _known(dataset_path)  # another import may have come in between
        for number, item in enumerate(new, 1):
            recording = item.read()
            if recording.digest() not in known:
                result.episodes.append(write_recording(dataset, recording, options,
                                                       result.format))
            if progress:
                progress('importing', number, len(new))
    return result


def find_recordings(source: str | Path, options: ImportOptions,
                    format_name: str = 'auto') -> tuple[str, list[Item]]:
    """
    Return the format of a source, and what it holds.

    :raises ExchangeError: when that is nothing; lists the layouts that are read.
    """
    source = Path(source)
    if not source.exists():
        raise ExchangeError(f'{source} does not exist; name a folder or a file to import')
    if format_name == 'auto':
        format_name = _detect(source)
    if format_name not in FORMATS:
        raise ExchangeError(f'unknown format {format_name!r}; choose auto or one of '
                            f'{", ".join(FORMATS)}')
    _refuse_useless(options, format_name)
    module = _module(format_name)
    items = module.find(source, options)
    if not items:
        raise ExchangeError(f'{source}: nothing to import as {format_name}, which reads '
                            f'{module.LAYOUT}')
    return format_name, items


def write_recording(dataset: Dataset, recording: Recording, options: ImportOptions,
                    format_name: str) -> int:
    """
    Write one recording as one episode, or nothing of it.

    :returns: the number of the episode.
    """
    spec = ImageSpec(*options.image_size) if options.image_size else None
    meta = recording.meta
    meta.image_spec = spec.to_dict() if spec else meta.image_spec
    meta.extra.update(source_format=format_name, source_digest=recording.digest())
    if recording.actions is None:
        meta.extra['actions'] = NO_ACTIONS
    writer = EpisodeWriter(dataset, meta, sync_every=0)
    try:
        _write_steps(writer, recording, spec, keep_jpeg=dataset.codec.kind == JPEG)
    except BaseException:
        if not writer.closed:
            writer.discard()
        raise
    return writer.episode_id


def _discard_cut_off(dataset: Dataset) -> None:
    """Leave out what a killed import left half done; the whole of it comes in again."""
    dataset.recover()
    for number in dataset.ids:
        attributes = dataset[number].attrs
        if attributes['interrupted'] and 'source_digest' in attributes:
            discard(dataset, number, 'import', 'the import was cut off')


def _write_steps(writer: EpisodeWriter, recording: Recording, spec: ImageSpec | None,
                 keep_jpeg: bool) -> None:
    last = recording.transitions
    count = last if recording.actions is None else len(recording.actions)
    for row in range(count):
        writer.add_step(recording.observation(row, spec, keep_jpeg), recording.action(row))
    # Without a final observation the last action's outcome was not seen: the writer keeps it.
    final = recording.observation(last, spec, keep_jpeg) if count == last else None
    writer.finish(final, recording.success, dropped=recording.dropped)


def _refuse_useless(options: ImportOptions, format_name: str) -> None:
    defaults = ImportOptions()
    for name, formats in _MEANT_FOR.items():
        if format_name not in formats and getattr(options, name) != getattr(defaults, name):
            raise ExchangeError(f'{name} means nothing to {format_name}, only to '
                                f'{", ".join(formats)}; leave it out')


def _look_at(item: Item, known: dict, options: ImportOptions) -> Finding:
    try:
        recording = item.read()
        found = {'steps': recording.transitions, 'instruction': recording.meta.instruction,
                 'actions': recording.actions is not None}
        recording.check_lengths()
        digest = recording.digest()
        for key in (digest, _number(recording.meta.extra)):
            if key in known:
                return Finding(item.name, KNOWN, known[key], **found)
        cameras = recording.check(resized=options.image_size is not None)
    except ExchangeError as error:
        return Finding(item.name, BAD, str(error))
    known[digest] = f'the same as {item.name}'
    return Finding(item.name, NEW, cameras=cameras, **found)


def _known(dataset_path: str | Path) -> dict:
    """Return what an existing dataset holds of earlier imports: key -> where."""
    if not Path(dataset_path).is_dir() or not any(Path(dataset_path).iterdir()):
        return {}  # import makes a dataset of it
    dataset, known = Dataset(dataset_path), {}
    discarded = {entry['episode_id'] for entry in dataset.discarded}
    for number in {*dataset.ids, *discarded}:
        attributes = dataset[number].attrs
        if not attributes['interrupted']:
            key = attributes.get('source_digest') or _number(attributes)
            known[key] = f'is episode {number} already{", discarded" * (number in discarded)}'
    known.pop(None, None)
    return known


def _number(attributes: dict) -> tuple | None:
    """Return what tells recordings apart that were imported before digests were kept."""
    numbered = attributes.get('source_path'), attributes.get('source_episode_id')
    return None if None in numbered else numbered


def _detect(source: Path) -> str:
    found = [name for name in FORMATS if _fits(_module(name), source)]
    if len(found) > 1 and 'frames' in found:
        found.remove('frames')  # other formats keep pictures too
    if len(found) == 1:
        return found[0]
    layouts = '; '.join(f'{name}: {_module(name).LAYOUT}' for name in found or FORMATS)
    raise ExchangeError(f'{source}: {"holds several formats" if found else "nothing to import"}; '
                        f'give --format, or a source of one of these: {layouts}')


def _fits(module: ModuleType, source: Path) -> bool:
    if source.is_file():
        return any(suffix in source.name.lower() for suffix in module.SUFFIXES)
    return any(True for pattern in module.PATTERNS for _ in source.glob(pattern))


def _module(format_name: str) -> ModuleType:
    return import_module(f'stable_crl_ros.exchange.{FORMATS[format_name]}')
