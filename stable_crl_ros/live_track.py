"""What the arm and the policy did lately, as the drawings of episodes want it."""

from collections import deque

import numpy as np
from stable_crl_ros.data.page import Page
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.data.timeline import scale_bars, Track
from stable_crl_ros.figures import COLOURS, GREY
from stable_crl_ros.message_reading import AppliedAction, PolicyTick

MATCHED = 200  # ticks that wait for the arm to deal with them
DONE_COLOUR, ACTING_COLOUR = COLOURS[2], COLOURS[0]


class LiveTrack:
    """
    The last control steps, each with what the policy said of it.

    :param steps: how many are kept.
    """

    def __init__(self, steps: int) -> None:
        self._steps: deque[tuple[AppliedAction, PolicyTick | None]] = deque(maxlen=steps)
        self._ticks: dict[int, PolicyTick] = {}
        self.taken = 0  # steps in all
        self.tick: PolicyTick | None = None  # the newest

    def add_tick(self, tick: PolicyTick) -> None:
        """Take what the policy said with a command; the arm has yet to deal with it."""
        self.tick = tick
        self._ticks[tick.capture_ns] = tick
        if len(self._ticks) > MATCHED:
            del self._ticks[next(iter(self._ticks))]

    def add_step(self, step: AppliedAction) -> None:
        """Take what the arm did."""
        tick = self._ticks.get(step.capture_ns) if step.mode == Mode.POLICY else None
        self._steps.append((step, tick))
        self.taken += 1

    def track(self) -> Track:
        """Return the steps as they are drawn."""
        steps, ticks = zip(*self._steps, strict=True) if self._steps else ((), ())
        action = np.array([step.applied for step in steps]).reshape(-1, 7)

        def said(name: str) -> np.ndarray:
            return np.array([getattr(tick, name) if tick else np.nan for tick in ticks], float)
        return Track(action, scale_bars(action), np.full(len(steps) + 1, np.nan), said('value'),
                     said('steps_to_go'), said('at_goal'),
                     np.array([bool(tick and tick.done) for tick in ticks], bool),
                     np.array([step.mode for step in steps], int),
                     np.zeros(len(steps), bool),
                     np.array([step.flags != 0 for step in steps], bool),
                     None, self.taken - len(steps))

    def title(self, goal: str, acting: bool) -> tuple[str, str, str]:
        """
        Say in words what the curves show.

        :param goal: its name.
        :param acting: whether the policy has spoken lately.
        :returns: headline, facts and the headline's colour, as `Page` takes them.
        """
        tick = self.tick if acting else None
        mode = Mode(self._steps[-1][0].mode).name.lower() if self._steps else 'no step yet'
        done = bool(tick and tick.done)
        headline = f'{mode}   goal {goal or "without a name"}{"   DONE" if done else ""}'
        if tick is None:
            return headline, 'the policy is silent', GREY
        facts = [f'checkpoint {tick.checkpoint}', f'image {1e3 * tick.image_age_s:.0f} ms old',
                 f'inference {1e3 * tick.inference_s:.1f} ms']
        if np.isfinite(tick.at_goal):
            facts[1:1] = [f'{tick.steps_to_go:.0f} steps to go',
                          f'at the goal with {100 * tick.at_goal:.0f} %']
        elif np.isfinite(tick.value):
            facts[1:1] = [f'value {tick.value:.1f}, not calibrated']
        return headline, '  ·  '.join(facts), DONE_COLOUR if done else ACTING_COLOUR

    def draw(self, image: np.ndarray, goal: np.ndarray | None, title: tuple[str, str, str],
             rate: float, height: int) -> np.ndarray:
        """
        Draw all of it.

        :param image: of the camera, uint8 RGB; the goal alike, None for none.
        :param title: as `title` gives it.
        :param rate: control steps per second.
        :param height: of the two pictures, pixels.
        :returns: uint8 RGB.
        """
        track = self.track()
        page = Page(track, rate, {'camera': image.shape[:2]}, goal, height, title)
        return page.frame(max(0, len(track.action) - 1), [image])
