"""Say better of the last episode what was said of it at its start."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.task import Future
from stable_crl_ros.data.dataset import Dataset, DatasetError
from stable_crl_ros.data.labels import relabel
from stable_crl_ros.data.recorder import RecordingSummary
from stable_crl_ros.nodes.common import answer, REFUSALS, value
from stable_crl_ros.nodes.logger_parameters import read_label
from std_srvs.srv import SetBool


class EpisodeLabels:
    """
    Offer `~/label_last`, by what the parameter `label` holds.

    :param node: whose service it is.
    :param path: gives the dataset that is recorded to.
    :param in_thread: runs work that waits for the disk.
    """

    def __init__(self, node: Node, path: Callable[[], Path],
                 in_thread: Callable[[Callable], Future]) -> None:
        self._node, self._path, self._in_thread = node, path, in_thread
        self.last: tuple[Path, int] | None = None  # dataset and number of the one just saved
        self._coming: Future | None = None  # the newest, once it is saved or could not be
        # A group of its own: its answer waits, and must not keep the others from theirs.
        node.create_service(SetBool, '~/label_last', self._on_label_last,
                            callback_group=ReentrantCallbackGroup())

    def expect(self) -> Future:
        """Have labels wait from now on for an episode that ends; tell it what became of that."""
        self._coming = Future()
        return self._coming

    async def follow(self, coming: Future | None, saving: Future) -> RecordingSummary:
        """
        Wait until an episode is saved.

        :param coming: what `expect` gave; None where there is nothing to label.
        :param saving: gives what it gives back.
        """
        try:
            summary = await saving
        except REFUSALS as error:
            if coming is not None:
                coming.set_exception(error)
                coming.exception()  # rclpy complains of one that nobody asks for
            raise
        if coming is not None:
            if coming is self._coming:  # an older one may take longer
                self.last = summary.path.parent, summary.episode_id
            coming.set_result(None)
        return summary

    async def _on_label_last(self, request: SetBool.Request, response: SetBool.Response):
        node = self._node
        try:
            words = read_label(value(node, 'label'))
            by = value(node, 'operator') or node.get_name()
            if self._coming is not None:  # what is said now is said of the one that just ended
                await self._coming
            path, number = self.last or (self._path(), None)
            said = await self._in_thread(
                partial(label_episode, path, number, by, {'success': request.data, **words}))
            # It was said of this episode, not of the next one that is labelled.
            node.set_parameters([Parameter('label', value='')])
            return answer(node, response, True, said)
        except REFUSALS as error:
            return answer(node, response, False, str(error))


def label_episode(path: Path, episode_id: int | None, by: str, labels: dict) -> str:
    """
    Label one episode of a dataset; blocks for as long as the disk takes.

    :param episode_id: None for the last one.
    :param labels: names and values as `data.labels.relabel` takes them.
    :returns: what was done, one line.
    :raises ValueError: or RuntimeError, when there is no such episode or the disk refuses.
    """
    dataset = Dataset(path)
    if episode_id is None and not dataset.ids:
        raise DatasetError(f'{path} holds no episode to label')
    number = dataset.ids[-1] if episode_id is None else episode_id
    relabel(dataset, number, by, **labels)
    said = ', '.join(f'{name} {label!r}' for name, label in labels.items())
    return f'labelled episode {number}: {said}; {dataset.episode_path(number)}'
