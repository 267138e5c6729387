"""Encoder, contrastive critic and Gaussian actor of Stable Contrastive RL."""

from collections.abc import Sequence

from stable_crl_ros.crl.config import AgentConfig
from stable_crl_ros.crl.draws import rand
from stable_crl_ros.crl.norms import CentredLayerNorm, layer_norm
from stable_crl_ros.crl.resnet import ResNet34, stacked_conv
import torch
from torch import nn, Tensor
import torch.nn.functional as F  # noqa: N812 the name every PyTorch user knows

CONV_LAYERS = ((8, 4, 2), (4, 2, 1), (3, 1, 1))  # kernel, stride, padding
# ReLU overwrites its input: no layer before it needs its own output for its gradient.
ACTIVATIONS = {'relu': F.relu_, 'swish': F.silu}


def to_pixels(images: Tensor | Sequence[Tensor], pixel_range: str,
              dtype: torch.dtype = torch.float32) -> Tensor:
    """
    Turn images into the network's input.

    :param images: shape (B, H, W, 3), uint8 or float, 0..255; several of equal H and W are put
        one after the other.
    :param pixel_range: 'unit' (0..1) or 'symmetric' (-1..1).
    :returns: (B, 3, H, W) of `dtype`, channels last in memory: the fast layout for convolutions.
    """
    parts = [images] if isinstance(images, Tensor) else images
    pixels = torch.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype=dtype,
                         device=parts[0].device)
    for part, place in zip(parts, pixels.split([len(part) for part in parts]), strict=True):
        place.copy_(part)
    pixels = pixels.permute(0, 3, 1, 2)
    return pixels.div_(255.0) if pixel_range == 'unit' else pixels.div_(127.5).sub_(1.0)


class Head(nn.Module):
    """
    Fully connected layers: linear, dropout, norm, activation; then a linear output.

    The first linear layer can be computed in two parts (`project`, then `finish`), which lets
    the critic's and the actor's losses share the part that depends on the image alone.

    :param norm: 'none', 'centred' (the critic's own) or 'affine' (`nn.LayerNorm`).
    :param skip_last_norm: leave the last hidden layer unnormalised. Its norm's parameters
        exist all the same, as in the authors' code, so that a checkpoint fits both settings.
    :param gain: of the hidden layers' Xavier-uniform initialisation; biases start at 0.
    :param final_init: the output's weights start in U(-x, x), or as hidden ones where 0.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, *, activation: str,
                 norm: str, skip_last_norm: bool, dropout: float, gain: float,
                 final_init: float) -> None:
        super().__init__()
        sizes = [inputs, *hidden]
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        make_norm = {'none': nn.Identity, 'centred': CentredLayerNorm, 'affine': nn.LayerNorm}
        self.norms = nn.ModuleList(make_norm[norm](size) for size in hidden)
        self.output = nn.Linear(sizes[-1], outputs)
        self.normalised = len(hidden) - 1 if skip_last_norm else len(hidden)
        self.activation = ACTIVATIONS[activation]
        self.dropout = dropout
        for layer in [*self.layers, self.output]:
            nn.init.xavier_uniform_(layer.weight, gain)
            nn.init.zeros_(layer.bias)
        if final_init:
            nn.init.uniform_(self.output.weight, -final_init, final_init)

    def project(self, features: Tensor) -> Tensor:
        """Apply the first layer's weights to the leading inputs, shape (B, <= inputs)."""
        weight = self.layers[0].weight[:, :features.shape[1]]
        return F.linear(features, weight, self.layers[0].bias)

    def finish(self, projected: Tensor, rest: Tensor | None = None,
               generator: torch.Generator | None = None) -> Tensor:
        """
        Add the trailing inputs to what `project` returned, and apply all that follows.

        :param rest: shape (B, inputs - those given to `project`), or None when that is 0.
        :param generator: draws the dropout; no dropout when None.
        :returns: shape (B, outputs).
        """
        if rest is not None:
            x = projected + F.linear(rest, self.layers[0].weight[:, -rest.shape[1]:])
        else:  # the caller's, and the activation may overwrite it
            plain = not self.normalised or isinstance(self.norms[0], nn.Identity)
            x = projected.clone() if plain else projected
        for index, norm in enumerate(self.norms):
            if index:
                x = self.layers[index](x)
            if self.dropout and generator is not None:
                keep = rand(x.shape, generator) >= self.dropout
                x = x * keep.to(x.device) / (1.0 - self.dropout)
            if index < self.normalised:
                x = layer_norm(x, norm.weight, norm.bias, norm.eps) \
                    if isinstance(norm, nn.LayerNorm) else norm(x)
            x = self.activation(x)
        return self.output(x)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Map (B, inputs) to (B, outputs)."""
        return self.finish(self.project(x), generator=generator)


class ConvEncoder(nn.Module):
    """
    Three strided convolutions, each normalised over (C, H, W) before its ReLU.

    :param image_size: rows and columns of the input.
    """

    def __init__(self, inputs: int, image_size: int, config: AgentConfig) -> None:
        super().__init__()
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        size = image_size
        for outputs, (kernel, stride, padding) in zip(config.channels, CONV_LAYERS, strict=True):
            conv = nn.Conv2d(inputs, outputs, kernel, stride, padding)
            nn.init.xavier_uniform_(conv.weight, config.hidden_gain)
            nn.init.zeros_(conv.bias)
            size = (size + 2 * padding - kernel) // stride + 1
            self.convs.append(conv)
            self.norms.append(nn.LayerNorm((outputs, size, size)) if config.encoder_norm
                              else nn.Identity())
            inputs = outputs
        self.features = inputs * size * size
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, *images: Tensor) -> Tensor:
        """Map images of `inputs` channels in all, each (B, C, H, W), to (B, `features`)."""
        x = None
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = stacked_conv(conv, images) if x is None else conv(x)
            x = x.permute(0, 2, 3, 1)  # (B, H, W, C), contiguous
            if isinstance(norm, nn.LayerNorm):
                x = layer_norm(x, norm.weight.permute(1, 2, 0), norm.bias.permute(1, 2, 0),
                               norm.eps)
            if conv is not self.convs[-1]:
                x = self.activation(x).permute(0, 3, 1, 2)
        # Flat before the activation, whose gradient is slow where two layouts meet.
        return self.activation(x.permute(0, 3, 1, 2).flatten(1))


def make_encoder(inputs: int, config: AgentConfig) -> nn.Module:
    """Make an encoder of images with `inputs` channels; its `features` is the output's size."""
    if config.encoder == 'resnet34':
        return ResNet34(inputs, ACTIVATIONS[config.activation])
    return ConvEncoder(inputs, config.image_size, config)


class Actor(nn.Module):
    """
    Gaussian policy with a fixed deviation and no squashing; observation and goal are stacked.

    :param action_dim: numbers in one action.
    """

    def __init__(self, config: AgentConfig, action_dim: int) -> None:
        super().__init__()
        self.encoder = make_encoder(6, config)
        self.head = Head(
            self.encoder.features, config.actor_hidden, action_dim,
            activation=config.activation, norm=config.actor_norm, skip_last_norm=False,
            dropout=config.actor_dropout, gain=config.hidden_gain,
            final_init=config.actor_final_init)

    def forward(self, observations: Tensor, goals: Tensor,
                generator: torch.Generator | None = None) -> Tensor:
        """
        Return the policy's mean.

        :param observations: pixels (B, 3, H, W).
        :param goals: pixels (B, 3, H, W).
        :param generator: draws the dropout while training; None while acting.
        :returns: normalised actions, shape (B, action_dim).
        """
        return self.head(self.encoder(observations, goals), generator).float()


class ContrastiveCritic(nn.Module):
    """
    Inner products of phi(s, a) and psi(g), from one image encoder shared by s, g and all heads.

    :param config: a `StableCRLConfig`.
    :param action_dim: numbers in one action.
    """

    def __init__(self, config: AgentConfig, action_dim: int) -> None:
        super().__init__()
        self.encoder = make_encoder(3, config)
        features = self.encoder.features
        self.phi, self.psi = nn.ModuleList(), nn.ModuleList()
        for _ in range(config.critics):
            for heads, inputs in ((self.phi, features + action_dim), (self.psi, features)):
                heads.append(Head(
                    inputs, config.critic_hidden, config.representation_size,
                    activation=config.activation, norm=config.critic_norm,
                    skip_last_norm=config.critic_skip_last_norm, dropout=0.0,
                    gain=config.hidden_gain, final_init=config.critic_final_init))
        self.normalised = config.normalise_representations
        # Used by normalised representations only; always there, as in the authors' code.
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def project(self, features: Tensor) -> list[Tensor]:
        """Compute the image's part of every phi once; see `Head.project`."""
        return [head.project(features) for head in self.phi]

    def represent_actions(self, projected: Sequence[Tensor], actions: Tensor) -> Tensor:
        """
        Compute phi(s, a) from `project`ed features of s.

        :param actions: normalised, shape (B, action_dim).
        :returns: shape (E, B, R), E critics and R numbers per representation.
        """
        phi = torch.stack([head.finish(part, actions)
                           for head, part in zip(self.phi, projected, strict=True)]).float()
        if self.normalised:
            phi = F.normalize(phi, dim=-1) * self.log_temperature.exp()
        return phi

    def represent_goals(self, features: Tensor) -> Tensor:
        """Compute psi(g) from the encoded goals; shape (E, B, R)."""
        psi = torch.stack([head(features) for head in self.psi]).float()
        return F.normalize(psi, dim=-1) if self.normalised else psi

    def forward(self, observations: Tensor, actions: Tensor, goals: Tensor) -> Tensor:
        """
        Score each state and action against the goal of the same row.

        :param observations: pixels (B, 3, H, W).
        :param actions: normalised, shape (B, action_dim).
        :param goals: pixels (B, 3, H, W).
        :returns: logits, shape (B, E).
        """
        phi = self.represent_actions(self.project(self.encoder(observations)), actions)
        return paired_logits(phi, self.represent_goals(self.encoder(goals)))


def paired_logits(phi: Tensor, psi: Tensor) -> Tensor:
    """Score row i against goal i: (E, B, R) twice -> (B, E)."""
    return (phi * psi).sum(-1).T


def all_logits(phi: Tensor, psi: Tensor) -> Tensor:
    """Score row i against every goal j: (E, B, R) twice -> (B, B, E)."""
    return torch.einsum('eik,ejk->ije', phi, psi)
