"""Run a trained actor: goal image + camera image -> physical action."""

import contextlib
import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np
from stable_crl_ros.actions import ACTION_DIM
from stable_crl_ros.calibration import Calibration, Progress, UNKNOWN
from stable_crl_ros.checkpoint import (
    check_fit,
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    peek_checkpoint,
)
from stable_crl_ros.crl.agent import Agent
from stable_crl_ros.crl.config import AgentConfig, ConfigError
from stable_crl_ros.crl.networks import to_pixels
from stable_crl_ros.crl.presets import find_algorithm
from stable_crl_ros.cuda_graph import CudaGraph
from stable_crl_ros.images import ImageSpec
import torch
from torch import nn, Tensor

REASON_LENGTH = 200
CAMERA_SHAPE = (480, 640, 3)
WARM_UP_STEPS = 3


class PolicyError(RuntimeError):
    """A policy asked for an action that it cannot give."""


class Decision(NamedTuple):
    """
    What a policy makes of one image.

    :param action: as `Policy.select_action` gives it.
    :param value: as `Policy.progress` gives it.
    :param progress: what the calibration of the checkpoint makes of the critic's measures; NaN
        without a critic or without calibration.
    """

    action: np.ndarray
    value: float
    progress: Progress


def check_device(name: str) -> str:
    """
    Return the name of a device torch can use here.

    :raises PolicyError: listing the devices there are.
    """
    there = ['cpu', *(f'cuda:{number}' for number in range(torch.cuda.device_count()))]
    if name in there or (name == 'cuda' and len(there) > 1):
        return name
    hint = '; torch sees no such GPU' if name.startswith('cuda') else ''
    raise PolicyError(f'device {name!r} cannot be used here{hint}; there are {", ".join(there)}')


def read_config(metadata: dict) -> tuple[type[Agent], AgentConfig]:
    """
    Return the learner that a checkpoint names and its configuration.

    :raises ConfigError: when they are unknown, or contradict the checkpoint's image spec or its
        calibration.
    """
    agent, kind = find_algorithm(metadata['algorithm'])
    config = kind.from_dict(metadata['config'])
    spec = ImageSpec.from_dict(metadata['image_spec'])
    if config.image_spec != spec:
        raise ConfigError(f'its network takes {config.image_spec}, but it says it was trained on '
                          f'{spec}')
    calibration = metadata.get('calibration')
    if calibration is not None:
        known = {*agent.STEPS_FROM, *agent.AT_GOAL_FROM}
        strange = sorted({*Calibration.from_dict(calibration).measures} - known)
        if strange:
            raise ConfigError(f'its calibration reads {", ".join(strange)}, which '
                              f'{metadata["algorithm"]} does not measure; it measures '
                              f'{", ".join(sorted(known)) or "nothing"}')
    return agent, config


def load_networks(checkpoint: Checkpoint, device: str | torch.device = 'cpu',
                  like: 'Policy | None' = None,
                  ) -> tuple[type[Agent], AgentConfig, dict[str, nn.Module]]:
    """
    Build a checkpoint's trained networks, for use alone.

    :param like: a policy whose networks are copied, which is quicker, if they are built alike.
    :returns: the learner, its configuration, and the networks by name.
    :raises ConfigError: as `read_config`.
    :raises RuntimeError: when the weights do not fit.
    """
    agent, config = read_config(checkpoint.metadata)
    if like is not None and type(like.config) is type(config) and like.config == config:
        networks = copy.deepcopy(like.networks)
    else:
        networks = agent.make_networks(config, ACTION_DIM)
    for name, network in networks.items():
        network.load_state_dict({key.removeprefix(f'{name}.'): tensor for key, tensor
                                 in checkpoint.tensors.items() if key.startswith(f'{name}.')})
        network.to(device).requires_grad_(False).eval()
    return agent, config, networks


def peek_policy(path: str | Path) -> dict:
    """
    Check in milliseconds, without reading the weights, whether a checkpoint can act.

    :returns: its metadata.
    :raises CheckpointError: as `peek_checkpoint`, and for a configuration that cannot be used.
    """
    metadata = peek_checkpoint(path)
    try:
        read_config(metadata)
    except ConfigError as error:
        raise CheckpointError(f'{path}: {error}; update the software or train again') from error
    return metadata


class Policy:
    """
    Greedy goal-conditioned policy.

    Images are uint8 RGB, shape (H, W, 3), of any size: they are resized as in training. Actions
    are float32, shape (7,): dx, dy, dz (m), droll, dpitch, dyaw (rad, fixed axes of
    `base_link`), gripper (0 closed .. 1 open), clipped to the bounds of the training data.

    :param checkpoint: a loaded checkpoint that fits this robot.
    :param device: such as 'cpu' or 'cuda'.
    :param threads: of torch on the CPU while it infers; torch's own choice when None.
    :param like: see `load_networks`.
    :raises CheckpointError: when the weights do not fit the configuration beside them.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = 'cpu', threads: int | None = None,
                 like: 'Policy | None' = None) -> None:
        self.image_spec = checkpoint.image_spec
        self.action_scale = checkpoint.action_scale
        self.algorithm = checkpoint.metadata['algorithm']
        self.metadata = checkpoint.metadata
        self.control_rate: float | None = checkpoint.metadata.get('control_rate')  # Hz
        self.checkpoint_id = checkpoint.sha256[:12]
        self.calibration = checkpoint.calibration
        self._device, self._threads = torch.device(device), threads
        self._agent, self.config, self.networks = load_networks(checkpoint, self._device, like)
        self.goal_image: np.ndarray | None = None  # as it was given
        self._goal: Tensor | None = None
        self._encoded: dict[str, Tensor] = {}  # what the critic needs of the goal
        self._graph: CudaGraph | None = None

    @classmethod
    def load(cls, path: str | Path, device: str = 'cpu', threads: int | None = None, *,
             name: str | Path | None = None, verified: bool = False,
             like: 'Policy | None' = None) -> 'Policy':
        """
        Read a checkpoint and build its policy.

        :param name: see `checkpoint.load_checkpoint`, and so for `verified`.
        :param like: see `load_networks`.
        :raises CheckpointError: when the file is not whole, or fits neither this robot nor
            itself; see `checkpoint.load_checkpoint`.
        :raises PolicyError: for a device that is not there.
        """
        check_device(device)
        name = path if name is None else name
        try:
            checkpoint = load_checkpoint(path, device, name=name, verified=verified)
            check_fit(name, checkpoint)
            return cls(checkpoint, device, threads, like)
        except ConfigError as error:
            raise CheckpointError(f'{name}: {error}; update the software or train again') \
                from error
        except RuntimeError as error:
            reason = ' '.join(str(error).split())[:REASON_LENGTH]  # torch lists every tensor
            raise CheckpointError(f'{name}: weights do not fit its configuration, or device '
                                  f'{device!r} failed ({reason}); train it again') from error

    def set_goal(self, image: np.ndarray) -> None:
        """
        Choose what the world shall look like.

        :param image: uint8 RGB, any size.
        :raises ImageError: when it is none.
        """
        goal = self._pixels(self._batch(image))
        with self._inference():
            placed = self._agent.place_goals(self.networks, goal)
            if self._graph is None:
                self._goal, self._encoded = goal, placed
            else:  # it reads them where they were when it was captured
                self._goal.copy_(goal)
                for name, tensor in placed.items():
                    self._encoded[name].copy_(tensor)
        self.goal_image = image

    def select_action(self, image: np.ndarray) -> np.ndarray:
        """
        Return the action that leads from this image towards the goal.

        :param image: uint8 RGB, any size.
        :returns: float32, shape (7,), physical units, within the action bounds.
        :raises PolicyError: before `set_goal`, or when the network's output is not finite.
        """
        return self._physical(self._mean(self._pixels(self._batch(image)))[0].cpu().numpy())

    def sample_action(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw an action from the policy's distribution, whose mode is `select_action`'s."""
        mean = self._mean(self._pixels(self._batch(image)))[0].cpu().numpy()
        noise = rng.normal(0.0, self.config.std, mean.shape)
        return self._physical(mean + noise.astype(mean.dtype))

    def progress(self, image: np.ndarray) -> float:
        """
        Return the learner's opinion of how soon the goal will be reached; higher is sooner.

        :returns: `Agent.score` of the policy's own action; NaN where nothing learns that.
        :raises PolicyError: before `set_goal`.
        """
        return self.decide(image).value

    def step(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """Return `select_action` and `progress` of one image at the cost of little more."""
        return self.decide(image)[:2]

    def decide(self, image: np.ndarray) -> Decision:
        """
        Return all there is to know of one image, each part computed once.

        :param image: uint8 RGB, any size.
        :raises PolicyError: as `select_action`.
        """
        if self._graph is not None and self.goal_image is not None:
            numbers = self._graph(self.image_spec.resize(image))
        else:
            numbers = self._numbers(self._batch(image)).cpu().numpy()
        action, (value, *measures) = self._physical(numbers[:ACTION_DIM]), numbers[ACTION_DIM:]
        progress = self.calibration.progress(dict(zip(
            self.calibration.measures, map(float, measures), strict=True))) \
            if measures else UNKNOWN
        return Decision(action, float(value), progress)

    def warm_up(self) -> None:
        """Run a few times on black images: the first real step is as quick as the others."""
        goal = self.goal_image
        black = np.zeros(CAMERA_SHAPE, np.uint8)  # larger than the network's: resized as well
        self.set_goal(black)
        for _ in range(WARM_UP_STEPS):
            self.step(black)
        if self._device.type == 'cuda' and self._graph is None:
            with contextlib.suppress(RuntimeError):  # then layer by layer, as on the CPU
                self._graph = CudaGraph(self._numbers, self.image_spec.shape, self._device)
        self.goal_image = None
        if goal is not None:
            self.set_goal(goal)

    def _inference(self) -> torch.inference_mode:
        # OpenMP keeps the number of threads per thread, and loading may happen in another one.
        if self._threads and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        return torch.inference_mode()

    def _batch(self, image: np.ndarray) -> Tensor:
        # A copy: torch warns of arrays that are read-only, as those of messages are.
        return torch.tensor(self.image_spec.resize(image), device=self._device)[None]

    def _pixels(self, batch: Tensor) -> Tensor:
        return to_pixels(batch, self.config.pixel_range)

    def _numbers(self, batch: Tensor) -> Tensor:
        # The action, the critic's value and the calibration's measures: one wait for them all.
        pixels = self._pixels(batch)
        mean = self._mean(pixels)
        names = self.calibration.measures if self.calibration else ()
        with self._inference():
            score, measures = self._agent.assess(self.networks, pixels, mean, self._encoded, names)
            if score is None:
                score, names = torch.full((1,), torch.nan, device=mean.device), ()
            parts = [mean[0], score, *(measures[name] for name in names)]
            return torch.cat([part.reshape(-1).to(mean.dtype) for part in parts])

    def _mean(self, pixels: Tensor) -> Tensor:
        if self.goal_image is None:
            raise PolicyError('no goal yet; call set_goal with a picture of the wanted outcome')
        with self._inference():
            return self._agent.act(self.networks, pixels, self._goal)

    def _physical(self, action: np.ndarray) -> np.ndarray:
        if not np.isfinite(action).all():
            raise PolicyError(f'checkpoint {self.checkpoint_id} gave the action {action}, which '
                              'is not finite; load another checkpoint')
        return self.action_scale.denormalise(action)
