"""What a watched training run offers to the policy node, and when it may be taken."""

from pathlib import Path
import threading

from stable_crl_ros.checkpoint_watch import FolderWatch, Offer
from stable_crl_ros.nodes.common import LATCHED, ManagedNode, param, value
from std_msgs.msg import String

WATCH_PERIOD_S = 1.0
NEVER, BETWEEN_EPISODES, AT_ONCE = RULES = ('never', 'between_episodes', 'at_once')


class Offers:
    """
    Watch the folder that `checkpoint_watch` names, in a thread: a disk may take its time.

    Declares `checkpoint_watch` and `checkpoint_watch_rule` of its node.

    :param node: the policy node.
    """

    def __init__(self, node: ManagedNode) -> None:
        self._node = node
        self.newest: Offer | None = None
        self.problem = ''
        self._unwanted: set[str] = set()
        self._announced = ''
        self._recording: str | None = None  # the logger's episode; '' for none, None: no logger
        param(node, 'checkpoint_watch', '', 'Folder of a training run whose newest complete '
              'checkpoint is offered; empty for none')
        param(node, 'checkpoint_watch_rule', NEVER, 'When an offered checkpoint is taken',
              choices=RULES)
        node.create_subscription(String, 'episode_logger/recording', self._on_recording, LATCHED)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name='checkpoint watch', daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop to watch; a disk that hangs is not waited for."""
        self._stopping.set()

    def reject(self, sha256: str) -> None:
        """Never offer this checkpoint again: it was refused, or the arm was taken from it."""
        self._unwanted.add(sha256)

    def due(self, running: str) -> Offer | None:
        """
        Return the offer that the rule says to take now.

        :param running: sha256 of the checkpoint that acts.
        """
        offer, rule = self.newest, value(self._node, 'checkpoint_watch_rule')
        if offer is None or offer.sha256 == running or offer.sha256 in self._unwanted:
            return None
        between = not self._node.active or self._recording == ''
        if rule == AT_ONCE or (rule == BETWEEN_EPISODES and between):
            return offer
        if self._announced != offer.sha256:
            self._announced = offer.sha256
            self._node.get_logger().info(f'offered: {offer.path}, step {offer.step}; '
                                         f'checkpoint_watch_rule is {rule}')
        return None

    def _on_recording(self, message: String) -> None:
        self._recording = message.data

    def _run(self) -> None:
        watch: FolderWatch | None = None
        while not self._stopping.wait(WATCH_PERIOD_S):
            folder = value(self._node, 'checkpoint_watch')
            if not folder:
                self.newest, watch, self.problem = None, None, ''
                continue
            try:
                path = Path(folder).expanduser()
                if watch is None or watch.folder != path:
                    watch = FolderWatch(path)
                self.newest, self.problem = watch.look(), ''
            except (OSError, RuntimeError, ValueError) as error:
                self.problem = f'checkpoint_watch: {folder!r}: {error}'
