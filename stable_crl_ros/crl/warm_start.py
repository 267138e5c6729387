"""Begin a run with the weights of a checkpoint: what must be the same, and what may change."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stable_crl_ros.actions import ActionScale
from stable_crl_ros.checkpoint import load_checkpoint
from stable_crl_ros.crl.agent import Agent
from stable_crl_ros.crl.config import AgentConfig
from stable_crl_ros.crl.presets import find_algorithm, make_config
from stable_crl_ros.crl.run_folder import TrainError
from torch import Tensor

# Settings of how is learned. All others say what the weights mean, and must stay.
MAY_CHANGE = {
    'augmentation', 'augment_probability', 'augment_per', 'crop_padding', 'augment_critic',
    'actor_goal', 'actor_goal_horizon', 'actor_goal_random', 'value_goal', 'value_goal_reached',
    'value_goal_random', 'reached_at', 'subgoal_steps', 'discount', 'batch_size', 'steps',
    'learning_rate', 'warmup_steps', 'actor_decay_steps', 'precision', 'actor_dropout', 'std',
    'actor_final_init', 'critic_final_init', 'value_final_init', 'hidden_gain', 'critic_loss',
    'target_update_rate', 'importance_limit', 'bc_coefficient', 'bc_squared_error',
    'expectile', 'policy_loss', 'alpha', 'low_alpha', 'high_alpha',
}


@dataclass(frozen=True)
class WarmStart:
    """
    What a run begins with.

    :param config: the checkpoint's, with what was asked to be changed.
    :param action_scale: the checkpoint's: its outputs mean nothing at another.
    :param control_rate: Hz, None where the checkpoint does not say.
    :param described: where it came from, for the metadata of what becomes of it.
    """

    algorithm: str
    config: AgentConfig
    action_scale: ActionScale
    tensors: Mapping[str, Tensor]
    control_rate: float | None
    described: dict

    def check_rate(self, control_rate: float) -> float:
        """
        Return the data's control rate.

        :raises TrainError: when the weights are for another: an action is then another speed.
        """
        if self.control_rate is not None and abs(self.control_rate - control_rate) > 1e-3:
            raise TrainError(f'the data was recorded at {control_rate:g} Hz, but the weights of '
                             f'{self.described["init_from"][:12]} are for '
                             f'{self.control_rate:g} Hz; use data of that rate')
        return control_rate

    def apply(self, agent: Agent) -> None:
        """
        Give a fresh learner the weights; its optimisers and its step stay fresh.

        :raises TrainError: when they do not fit.
        """
        try:
            agent.start_from(self.tensors)
        except RuntimeError as error:
            reason = ' '.join(str(error).split())[:200]
            raise TrainError(f'the weights of {self.described["init_from"][:12]} do not fit its '
                             f'own configuration ({reason}); train it again') from error


def read_start(path: str | Path, preset: str | None, overrides: Mapping | None) -> WarmStart:
    """
    Read the checkpoint that a run begins with.

    :param preset: whose settings of learning are taken; None keeps the checkpoint's own.
    :param overrides: settings to change.
    :raises TrainError: for another algorithm, or a change of what the weights mean; says which.
    :raises stable_crl_ros.checkpoint.CheckpointError: for a file that cannot be used.
    :raises ConfigError: for unknown settings.
    """
    checkpoint = load_checkpoint(path)
    metadata = checkpoint.metadata
    algorithm, own = metadata['algorithm'], find_algorithm(metadata['algorithm'])[1].from_dict(
        metadata['config'])
    if preset is None:
        config = own.override(overrides or {})
    else:
        wanted, config = make_config(preset, overrides)
        if wanted != algorithm:
            raise TrainError(f'{path}: was trained by {algorithm}; preset {preset} is for '
                             f'{wanted}. Leave the preset out, or name one of {algorithm}')
    changed = [f'{name} is {before}, not {config.to_dict()[name]}'
               for name, before in own.to_dict().items()
               if name not in MAY_CHANGE and config.to_dict()[name] != before]
    if changed:
        raise TrainError(f'{path}: its weights are for other settings ({"; ".join(changed)}); '
                         'keep those, or train from the beginning')
    return WarmStart(algorithm, config, checkpoint.action_scale, checkpoint.tensors,
                     metadata.get('control_rate'), {
        'preset': preset or metadata.get('preset', ''), 'init_from': checkpoint.sha256,
        # The youngest first: whose weights these were, and after how many steps.
        'ancestors': [{'sha256': checkpoint.sha256, 'step': metadata['step']},
                      *metadata.get('ancestors', [])]})
