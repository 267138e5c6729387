"""ResNet-34 with group norm, the encoder for images of the real WidowX."""

from collections.abc import Callable, Sequence

from torch import nn, Tensor
import torch.nn.functional as F  # noqa: N812 the name every PyTorch user knows

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # filters, blocks
GROUPS = 4


def stacked_conv(conv: nn.Conv2d, images: Sequence[Tensor]) -> Tensor:
    """
    Convolve images stacked along their channels, without the slow copy that stacks them.

    :param images: each (B, C, H, W); `conv` takes the sum of their channels.
    """
    weights = conv.weight.split([image.shape[1] for image in images], dim=1)
    result = F.conv2d(images[0], weights[0], conv.bias, conv.stride, conv.padding)
    for image, weight in zip(images[1:], weights[1:], strict=True):
        result += F.conv2d(image, weight, None, conv.stride, conv.padding)
    return result


def _conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity='relu')
    return conv


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is projected where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Callable) -> None:
        super().__init__()
        self.conv1, self.norm1 = _conv(inputs, outputs, 3, stride), nn.GroupNorm(GROUPS, outputs)
        self.conv2, self.norm2 = _conv(outputs, outputs, 3, 1), nn.GroupNorm(GROUPS, outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(_conv(inputs, outputs, 1, stride),
                                          nn.GroupNorm(GROUPS, outputs))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        y = self.activation(self.norm1(self.conv1(x)))
        return self.activation(self.shortcut(x) + self.norm2(self.conv2(y)))


class ResNet34(nn.Module):
    """
    7x7 stem, four stages of residual blocks, average pooling.

    :param inputs: channels of the image.
    :param activation: after every norm.
    """

    features = STAGES[-1][0]

    def __init__(self, inputs: int, activation: Callable) -> None:
        super().__init__()
        self.stem, self.norm = _conv(inputs, 64, 7, 2), nn.GroupNorm(GROUPS, 64)
        blocks, channels = [], 64
        for stage, (filters, count) in enumerate(STAGES):
            for index in range(count):
                stride = 2 if stage and not index else 1
                blocks.append(ResidualBlock(channels, filters, stride, activation))
                channels = filters
        self.blocks = nn.Sequential(*blocks)
        self.activation = activation

    def forward(self, *images: Tensor) -> Tensor:
        """Map images of `inputs` channels in all, each (B, C, H, W), to features (B, 512)."""
        x = self.activation(self.norm(stacked_conv(self.stem, images)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        return self.blocks(x).mean((2, 3))
