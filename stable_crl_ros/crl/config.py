"""What every agent's configuration shares, and how one is read, changed and checked."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
import math

from stable_crl_ros.images import ImageSpec, INTERPOLATIONS

# Sources named beside the values of the configurations:
#   SC   the authors' simulation code (PyTorch), its defaults.
#   BD   the authors' configuration for WidowX and BridgeData V2 (JAX).
#   GR   google-research/contrastive_rl, the plain algorithm.
#   OGB  OGBench: its reference implementations, with its settings for manipulation from images.
#   ours a choice of this package.
CHOICES = {
    'interpolation': INTERPOLATIONS,
    'pixel_range': ('unit', 'symmetric'),
    'encoder': ('cnn', 'resnet34'),
    'activation': ('relu', 'swish'),
    'actor_norm': ('none', 'affine'),
    'critic_norm': ('none', 'centred', 'affine'),
    'critic_loss': ('td', 'mc', 'nce'),
    'value_norm': ('none', 'centred', 'affine'),
    'policy_loss': ('ddpgbc', 'awr'),
    'value_goal': ('geometric', 'uniform', 'later'),
    'goal_input': ('stacked', 'difference'),
    'reached_at': ('current', 'next'),
    'actor_goal': ('geometric', 'uniform', 'later', 'soon'),
    'augmentation': ('none', 'crop', 'jitter'),
    'augment_per': ('batch', 'sample'),
    'action_scale': ('bounds', 'statistics', 'bridge'),
    'precision': ('fp32', 'bf16'),
}

LARGEST_LAYER = 65536
# Settings of earlier versions that changed nothing: the entropy of a policy of fixed deviation.
FORMER = ('entropy_coefficient',)


class ConfigError(ValueError):
    """A configuration that must not be used."""


@dataclass(frozen=True)
class AgentConfig:
    """Images, actor, behavioural cloning and optimiser: what every algorithm needs."""

    image_size: int = 48  # rows and columns of the network's input (SC)
    interpolation: str = 'area'  # how images are shrunk (ours); Lanczos in SC and BD
    pixel_range: str = 'unit'  # 'unit' 0..1 (SC) | 'symmetric' -1..1 (BD)

    encoder: str = 'cnn'  # 'cnn' 3 convolutions (SC) | 'resnet34' with group norm (BD)
    channels: tuple[int, ...] = (32, 64, 64)  # of the cnn's 8x8/4, 4x4/2, 3x3/1 layers (SC)
    encoder_norm: bool = True  # layer norm over (C, H, W) after each convolution of the cnn (SC)
    actor_hidden: tuple[int, ...] = (1024, 1024, 1024, 1024)  # (SC); 3 x 256 in BD
    actor_norm: str = 'affine'  # layer norm before every activation (SC); 'none' in BD
    actor_dropout: float = 0.0  # 0.1 in BD
    actor_final_init: float = 1e-12  # last layer U(-x, x); 0 = as hidden (SC research code)
    activation: str = 'relu'  # (SC); 'swish' in BD
    hidden_gain: float = math.sqrt(2)  # of the Xavier-uniform initialisation (SC); 1 in BD
    std: float = 0.15  # fixed standard deviation of the policy, normalised (SC); 1 in BD

    augmentation: str = 'crop'  # 'none' | 'crop' (SC) | 'jitter' = resized crop + colours (BD)
    augment_probability: float = 0.5  # (SC); 1 in BD
    augment_per: str = 'batch'  # one coin per 'batch' (SC) or per 'sample'
    crop_padding: int = 4  # pixels of replicated border for 'crop' (SC)

    action_scale: str = 'bounds'  # box -> -1..1 | 'statistics' of the data | 'bridge' published
    actor_goal: str = 'geometric'  # future goal of the actor (SC); 'later' in BD
    actor_goal_horizon: int = 100  # steps within which goals lie that come 'soon' (ours)
    # Share of the actor's goals that are any episode's (SC, BD; 0.5 in GR online, and in OGB for
    # data to be stitched)
    actor_goal_random: float = 0.0
    discount: float = 0.99  # per step; also of geometric goals (SC); 0.98 in BD
    batch_size: int = 2048  # (SC); 256 in BD
    steps: int = 300_000  # gradient steps (SC); 2,000,000 in BD
    learning_rate: float = 3e-4  # Adam, betas 0.9 and 0.999, eps 1e-8 (SC, BD)
    warmup_steps: int = 0  # linear from 0 (SC); 2000 in BD
    actor_decay_steps: int = 0  # actor's cosine to 0 over as many; 0 = constant (SC)
    # 'bf16' = autocast (ours); 'fp32' on a GPU computes products in full and convolutions in TF32,
    # PyTorch's default
    precision: str = 'fp32'

    def __post_init__(self) -> None:
        """Refuse values that cannot work, naming the valid ones."""
        for name, valid in CHOICES.items():
            if hasattr(self, name) and getattr(self, name) not in valid:
                hint = ('; half floats underflow the cold initialisation: logits stay 0 for ever'
                        if getattr(self, name) == 'fp16' else '')
                raise ConfigError(f'{name} is {getattr(self, name)!r}, must be one of '
                                  f'{", ".join(valid)}{hint}')
        for field in fields(self):
            sizes = getattr(self, field.name)
            if field.type == tuple[int, ...] and not (
                    sizes and min(sizes) >= 1 and max(sizes) <= LARGEST_LAYER):
                raise ConfigError(f'{field.name} needs one layer or more, each of 1 .. '
                                  f'{LARGEST_LAYER}; got {sizes}')
        if len(self.channels) != 3:
            raise ConfigError(f'channels needs 3 numbers, got {self.channels}')
        if not 0.0 < self.discount < 1.0:
            raise ConfigError(f'discount must lie between 0 and 1, both excluded; '
                              f'got {self.discount}')
        self._check_range('augment_probability', 0.0, 1.0)
        self._check_range('actor_goal_random', 0.0, 1.0)
        self._check_range('actor_dropout', 0.0, 0.95)
        # ResNet-34 halves five times. At 16 pixels, of which one is left, bf16's gradients of the
        # weights beside it are whatever stood in memory (PyTorch 2.13 on the CPU).
        self._check_range('image_size', 32 if self.encoder == 'resnet34' else 16, 1024)
        self._check_range('batch_size', 2, 1_000_000)
        self._check_range('actor_goal_horizon', 1, 1_000_000)
        self._check_range('crop_padding', 0, self.image_size)
        for name in ('std', 'learning_rate', 'steps', 'hidden_gain'):
            self._check_range(name, 1e-12, math.inf)
        for name in ('warmup_steps', 'actor_decay_steps', 'actor_final_init'):
            self._check_range(name, 0, math.inf)

    def _check_range(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not low <= value <= high or math.isinf(value):
            valid = f'must lie in {low:g} .. {high:g}' if math.isfinite(high) else (
                f'must be {low:g} or more, and finite')
            raise ConfigError(f'{name} is {value}, {valid}')

    @property
    def image_spec(self) -> ImageSpec:
        """What observations and goals must be resized to."""
        return ImageSpec(self.image_size, self.image_size, self.interpolation)

    def to_dict(self) -> dict:
        """Return plain values, as stored in checkpoints."""
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping) -> 'AgentConfig':
        """
        Read what `to_dict` of this or an earlier version wrote.

        :param values: by name; those left out keep their defaults, and `FORMER` ones are dropped.
        :raises ConfigError: for an unknown name or a wrong value.
        """
        return cls().override(current_settings(values))

    def override(self, values: Mapping) -> 'AgentConfig':
        """
        Return a copy with other values.

        :param values: by field name; strings such as '0.95', 'true' or '16,32,32' are parsed
            as the field's type.
        :raises ConfigError: for an unknown name or a wrong value.
        """
        known = {field.name: field.type for field in fields(self)}
        unknown = set(values) - set(known)
        if unknown:
            raise ConfigError(f'unknown setting {", ".join(sorted(unknown))}; '
                              f'known are {", ".join(sorted(known))}')
        return replace(self, **{name: parse(name, known[name], value)
                                for name, value in values.items()})


def current_settings(values: Mapping) -> dict:
    """Leave out what this version has no more."""
    return {name: value for name, value in values.items() if name not in FORMER}


def parse(name: str, kind: type, value):
    """
    Turn a value from a command line or a JSON file into a field's type.

    :raises ConfigError: when that is impossible.
    """
    try:
        if kind is bool:
            return {'true': True, 'false': False}[str(value).lower()]
        if kind == tuple[int, ...]:
            parts = value.strip('()[] ').split(',') if isinstance(value, str) else value
            return tuple(int(part) for part in parts if part != '')
        if kind is int and float(value) != int(float(value)):
            raise ValueError('not a whole number')
        return kind(float(value)) if kind is int else kind(value)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        kind_name = getattr(kind, '__name__', str(kind))
        raise ConfigError(f'{name} needs {kind_name}, got {value!r}') from error
