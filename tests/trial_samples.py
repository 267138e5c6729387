"""A stage without a robot that records real episodes, and days on it, for tests of trials."""

from pathlib import Path
import sys
import time

import numpy as np
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.schema import Action, EpisodeMeta, Mode, Observation
from stable_crl_ros.trials.day import Acted, run_day, SimulatorJudge
from stable_crl_ros.trials.plan import CheckpointEntry, Design, GoalEntry, open_plan

GOOD, BAD = 'a' * 64, 'b' * 64


def make_design(**changes):
    """Give a design of two checkpoints on two tasks, three trials each."""
    return Design(**{
        'goals': (GoalEntry('open_drawer'), GoalEntry('close_drawer')),
        'checkpoints': (CheckpointEntry('/runs/good.safetensors', GOOD),
                        CheckpointEntry('/runs/bad.safetensors', BAD)),
        'n': 3, 'seed': 0, 'limit_s': 0.0, 'judge': 'simulator', 'robot': 'sim', **changes})


class RecordingStage:
    """The good checkpoint always succeeds, the bad one never; every trial records two steps."""

    def __init__(self, folder, pause_s=0.0, says=''):
        self.dataset = Path(folder).absolute() / 'episodes'
        self._pause_s, self._says = pause_s, says
        self.prepared = []

    def prepare(self, trial, goal, checkpoint):
        self.prepared.append(trial.number)
        self._acts, self._goal = checkpoint.sha256, goal.name

    def act(self, limit_s, watch):
        dataset = Dataset(self.dataset, create=True)
        self._writer = EpisodeWriter(dataset, EpisodeMeta(
            task=self._goal, goal_id=self._goal, checkpoint=self._acts))
        for _ in range(2):
            self._writer.add_step(self._see(), Action(np.zeros(7), mode=Mode.POLICY))
            time.sleep(self._pause_s)
        good = self._acts == GOOD
        return Acted(watch() or self._says, 4.0, 20, self._acts, good, 2.0 if good else None,
                     {'drawer': 0.001 if good else 0.05})

    def keep(self, success):
        self._writer.finish(self._see(), success)
        time.sleep(self._pause_s)  # a day killed here has recorded what it has no result of
        return Dataset(self.dataset).ids[-1]

    def drop(self, why):
        self._writer.discard()

    def _see(self):
        return Observation({'camera': np.zeros((8, 8, 3), np.uint8)})


def run_sample_day(folder, **changes):
    """Run or go on with a day of the sample design, judged as in simulation."""
    folder = Path(folder)
    plan = open_plan(folder, make_design(**changes))
    stage = RecordingStage(folder, pause_s=0.02)
    return plan, run_day(folder, plan, stage, SimulatorJudge(), lambda line: None)


if __name__ == '__main__':
    run_sample_day(sys.argv[1])
