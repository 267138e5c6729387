"""What is prepared beside a policy that acts: the very file that was looked at."""

from collections.abc import Sequence

from learning_samples import lively, write_checkpoint
import numpy as np
import pytest
from stable_crl_ros.checkpoint import CheckpointError
from stable_crl_ros.preparation import Computer, Wish

COMPUTER = Computer('cpu', 1, 20.0)


class Meanwhile(Sequence):
    """Frames that have something happen just before they are shown to the new policy."""

    def __init__(self, happen):
        self._happen = happen

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if index:
            raise IndexError
        self._happen()
        return np.zeros((16, 16, 3), np.uint8)


def test_a_file_that_is_replaced_after_the_first_look_is_looked_at_again(tmp_path):
    path = tmp_path / 'policy.safetensors'
    write_checkpoint(path, agent=lively(1), control_rate=20.0)

    def replace():
        write_checkpoint(path, agent=lively(2), control_rate=5.0)
    with pytest.raises(CheckpointError, match='its actions are steps at 5 Hz'):
        COMPUTER.prepare(Wish(str(path), Meanwhile(replace)))
