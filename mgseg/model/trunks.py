"""Trunks: the ImageNet networks of the encoders, to stride 16; `TRUNKS` describes each of them.

Written out instead of taken from torchvision, whose import takes 166 MB and a second and a half at every start; the
tests compare them with it to the bit.
Source: ResNet (He et al. 2016), MobileNetV2 (Sandler et al. 2018).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from mgseg.model.fast.convolve import convolve


class Stages(NamedTuple):
    """A network in parts: the stem's convolution, what follows it, then the stages that end at stride 4, 8 and 16."""

    stem: nn.Conv2d
    after_stem: nn.Sequential  # begins with the stem's batch norm
    stages: list[nn.Sequential]
    channels: tuple[int, int, int]  # of the stages' maps


@dataclass(frozen=True)
class TrunkSpec:
    """Description of a trunk.

    Attributes:
        build: makes it with random weights; takes whether its strides are in 1x1 convolutions, see `Bottleneck`.
        torchvision_names: our module name -> torchvision's, for ImageNet weights.
        imagenet_weights: those weights' name for `torchvision.models.get_weight`: the first that torchvision had,
            which STM and its followers started from.
        in_float32: its arithmetic stays in float32 where half precision or int8 is asked for, except in training on
            a CPU, see `fast.frozen`.
        preset: name of the network that is built on it by default.
        key_dim, value_dim, decoder_dim: of that network, see `ModelConfig`.
    """

    build: Callable[[bool], Stages]
    torchvision_names: dict[str, str]
    imagenet_weights: str
    preset: str
    in_float32: bool = False
    key_dim: int = 128
    value_dim: int = 512
    decoder_dim: int = 256


class Bottleneck(nn.Module):
    """ResNet's block: 1x1, 3x3 and 1x1 convolutions around a shortcut, (B, C, h, w) -> (B, 4 * width, h', w').

    Args:
        dim: channels of the input.
        width: width of the 3x3 convolution.
        stride: stride of the block.
        stride_in_1x1: whether the first convolution has it ("v1") or the second one ("v1.5").
    """

    def __init__(self, dim: int, width: int, stride: int, stride_in_1x1: bool) -> None:
        super().__init__()
        strides = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = nn.Conv2d(dim, width, 1, strides[0], bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, strides[1], padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or dim != 4 * width:
            projection = nn.Conv2d(dim, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        y = convolve(x, self.conv1, self.bn1, "relu")
        y = convolve(y, self.conv2, self.bn2, "relu")
        onto = convolve(x, *self.downsample) if isinstance(self.downsample, nn.Sequential) else x
        return convolve(y, self.conv3, self.bn3, "relu", onto)


class InvertedResidual(nn.Module):
    """MobileNetV2's block: widen, 3x3 convolution of each channel, narrow; around a shortcut where sizes allow.

    Args:
        dim: channels of the input.
        out_dim: number of channels of the output.
        stride: stride of the block.
        expansion: how many times wider it is inside.
    """

    def __init__(self, dim: int, out_dim: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = dim * expansion
        self.conv = nn.Sequential(
            *([_ConvNormRelu6(dim, width, 1)] if expansion > 1 else []),
            _ConvNormRelu6(width, width, 3, stride, groups=width),
            nn.Conv2d(width, out_dim, 1, bias=False),
            nn.BatchNorm2d(out_dim),
        )
        self.has_shortcut = stride == 1 and dim == out_dim

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, D, h / stride, w / stride)."""
        y: Tensor = self.conv[:-2](x)
        return convolve(y, self.conv[-2], self.conv[-1], onto=x if self.has_shortcut else None)


def resnet50(stride_in_1x1: bool) -> Stages:
    """ResNet-50 to its third stage, with random weights; for `stride_in_1x1` see `Bottleneck`."""
    stem = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
    # The relu commutes with the maximum, behind which the map is a quarter as large.
    after_stem = nn.Sequential(nn.BatchNorm2d(64), nn.MaxPool2d(3, 2, padding=1), nn.ReLU(inplace=True))
    stages, dim = [], 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2)):
        stage = nn.Sequential()
        for block in range(blocks):
            stage.append(Bottleneck(dim, width, stride if block == 0 else 1, stride_in_1x1))
            dim = 4 * width
        stages.append(stage)
    return _initialised(Stages(stem, after_stem, stages, (256, 512, 1024)))


def mobilenet_v2(stride_in_1x1: bool = False) -> Stages:
    """MobileNetV2 to its 13th block, with random weights; it has no strides in 1x1 convolutions."""
    stem = nn.Conv2d(3, 32, 3, 2, padding=1, bias=False)
    after_stem = nn.Sequential(nn.BatchNorm2d(32), nn.ReLU6(inplace=True))
    blocks: list[nn.Module] = []
    dim = 32
    for expansion, out_dim, repeats, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
    ):
        for repeat in range(repeats):
            blocks.append(InvertedResidual(dim, out_dim, stride if repeat == 0 else 1, expansion))
            dim = out_dim
    stages = [nn.Sequential(*blocks[i:j]) for i, j in ((0, 3), (3, 6), (6, 13))]
    return _initialised(Stages(stem, after_stem, stages, (24, 32, 96)))


class _ConvNormRelu6(nn.Sequential):
    def __init__(self, dim: int, out_dim: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        conv = nn.Conv2d(dim, out_dim, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out_dim))

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self[0], self[1], "relu6")


def _initialised(stages: Stages) -> Stages:
    """Draw the convolutions' weights so that activations keep their scale (He et al. 2015)."""
    for part in (stages.stem, *stages.stages):
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return stages


TRUNKS = {
    "resnet50": TrunkSpec(
        build=resnet50,
        torchvision_names={
            "stem": "conv1",
            "after_stem.0": "bn1",
            "stage4": "layer1",
            "stage8": "layer2",
            "stage16": "layer3",
        },
        imagenet_weights="ResNet50_Weights.IMAGENET1K_V1",
        preset="resnet50",  # the paper's network
    ),
    "mobilenet_v2": TrunkSpec(
        build=mobilenet_v2,
        torchvision_names={
            "stem": "features.0.0",
            "after_stem.0": "features.0.1",
            **{f"stage4.{i}": f"features.{i + 1}" for i in range(3)},
            **{f"stage8.{i}": f"features.{i + 4}" for i in range(3)},
            **{f"stage16.{i}": f"features.{i + 7}" for i in range(7)},
        },
        imagenet_weights="MobileNet_V2_Weights.IMAGENET1K_V1",
        preset="lite",  # a light network of the same method, for machines without a GPU
        # Its few channels differ so much in scale that half precision and int8 are too coarse for all of them: half
        # precision there moves the masks five times as far as in all the rest.
        in_float32=True,
        key_dim=64,
        value_dim=256,
        decoder_dim=64,
    ),
}
