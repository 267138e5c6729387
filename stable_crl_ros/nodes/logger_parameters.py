"""The episode logger's parameters, those included in which an operator says what is recorded."""

from collections.abc import Sequence

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from stable_crl_ros.data.labels import LabelError
from stable_crl_ros.nodes.common import param, value
import yaml

WORDS = ('task', 'instruction', 'operator', 'notes')
LABELS = (*WORDS, 'tags')
EXAMPLE = "'notes: the cup fell over' or '{task: wipe, tags: [spill, slow]}'"


def declare(node: Node) -> None:
    """Declare every parameter of the logger but those of `EpisodeInput`."""
    param(node, 'dataset_path', '~/stable_crl/episodes', 'Directory the episodes go to')
    param(node, 'image_codec', '', 'How images are stored: lossless, or jpeg:95 (quality 1 to '
          "100); empty for the dataset's own, lossless in a new one")
    for name in WORDS:
        param(node, name, '', f'{name} of the next episode, stored with it')
    param(node, 'tags', [''], 'Words to find the next episodes by')
    param(node, 'label', '', 'What ~/label_last changes beside success, as YAML: '
          "'notes: the cup fell over'; empty again afterwards")
    param(node, 'source', 'robot', 'Where episodes come from: robot, simulation, ...')
    param(node, 'record_on_start', False, 'Record from the first control step on',
          read_only=True)
    param(node, 'record_again', False, 'Begin the next episode when one ended by max_steps or '
          'max_duration', read_only=True)
    param(node, 'max_steps', 0, 'Control steps after which an episode ends; 0: never', low=0)
    param(node, 'max_duration', 0.0, 'Time after which an episode ends (s); 0: never', low=0.0)
    param(node, 'control_rate', 5.0, 'Control steps per second (Hz)', low=0.5, high=50.0,
          read_only=True)
    param(node, 'minimum_rate_share', 0.9, 'An episode recorded at less than this share of '
          'control_rate is marked as degraded', low=0.0, high=1.0)
    param(node, 'minimum_free_disk', 1.0, 'Free disk below which nothing is recorded (GB)',
          low=0.0, read_only=True)
    node.add_on_set_parameters_callback(_check)


def _check(parameters: list[Parameter]) -> SetParametersResult:
    for parameter in parameters:
        if parameter.name == 'label':
            try:
                read_label(parameter.value)
            except LabelError as error:
                return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)


def read_label(text: str) -> dict:
    """
    Read what the parameter `label` holds: `name: value` pairs as YAML.

    :returns: names out of `LABELS`, ready for `data.labels.relabel`; empty for an empty text.
    :raises LabelError: for another form, another name, or a value that is no text.
    """
    try:
        given = yaml.safe_load(text) if text.strip() else {}
    except yaml.YAMLError as error:
        raise LabelError(f'label {text!r} is no YAML; write for example {EXAMPLE}') from error
    if not isinstance(given, dict):
        raise LabelError(f'label {text!r} has no names; write for example {EXAMPLE}')
    unknown = [name for name in given if name not in LABELS]
    if unknown:
        raise LabelError(f'label has no {", ".join(map(str, unknown))}; it may hold '
                         f'{", ".join(LABELS)}; ~/label_last itself says success or not')
    return {name: _tags(value) if name == 'tags' else _text(name, value)
            for name, value in given.items()}


def told(node: Node) -> dict:
    """Return what `EpisodeMeta` takes of the parameters, as they are now."""
    return {**{name: value(node, name)
               for name in (*WORDS, 'source', 'control_rate', 'minimum_rate_share')},
            'tags': used_tags(value(node, 'tags'))}


def used_tags(tags: Sequence[str]) -> list[str]:
    """Return the tags that say something: an empty list of words cannot be a parameter."""
    return [tag.strip() for tag in tags if tag.strip()]


def _tags(value) -> list[str]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list):
        raise LabelError(f'label tags: {value!r}; write tags: [one, two]')
    return used_tags([_text('tags', word) for word in words])


def _text(name: str, value) -> str:
    if isinstance(value, list | dict | None):
        raise LabelError(f'label {name}: {value!r}; write text')
    return str(value)
