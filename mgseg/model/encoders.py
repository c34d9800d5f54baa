"""Trunks of the query and the memory encoder: an ImageNet network cut off at stride 16.

Shapes: B pictures, N objects a picture, H x W the network's input (multiples of 16), C channels.
Source: STM (Oh et al., ICCV 2019), section 3.1.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mgseg.model.trunks import TRUNKS

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Features(NamedTuple):
    """Feature maps of one picture at three strides: (B, C, H / 4, W / 4), (.., / 8), (.., / 16)."""

    feat4: Tensor
    feat8: Tensor
    feat16: Tensor


class Trunk(nn.Module):
    """An ImageNet network to stride 16, split so that something can be added to the stem's convolution.

    Args:
        name: a name in `TRUNKS`.
        stride_in_1x1: ResNet only: the stride of a stage's first block is in its 1x1 convolution ("v1", He et
            al.) instead of its 3x3 convolution ("v1.5", torchvision).

    Attributes:
        spec: what is known of it.
        channels: channel counts of the maps at stride 4, 8 and 16.
    """

    def __init__(self, name: str, stride_in_1x1: bool = False) -> None:
        super().__init__()
        self.spec = TRUNKS[name]
        network = self.spec.build(stride_in_1x1)
        self.stem, self.after_stem, self.channels = network.stem, network.after_stem, network.channels
        self.stage4, self.stage8, self.stage16 = network.stages

    def arithmetic(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which the encoder computes: float32 for trunks that need it, see `TrunkSpec`."""
        in_float32 = self.spec.in_float32 and not (torch.is_grad_enabled() and device.type == "cpu")
        return torch.autocast(device.type, enabled=False) if in_float32 else nullcontext()

    def forward(self, x: Tensor) -> Features:
        """Run the stages, on what `after_stem` makes of the stem's sum."""
        feat4 = self.stage4(x)
        feat8 = self.stage8(feat4)
        return Features(feat4, feat8, self.stage16(feat8))


def add_to_objects(x: Tensor, of_frame: Tensor) -> Tensor:
    """Add a map of each frame (B, C, h, w) to those of its objects (B * N, C, h, w), in place."""
    x.unflatten(0, (len(of_frame), -1)).add_(of_frame.unsqueeze(1))
    return x  # and not the view, whose strides would hide from torch that it is channels last


class QueryEncoder(nn.Module):
    """Picture -> feature maps."""

    def __init__(self, trunk: str, stride_in_1x1: bool) -> None:
        super().__init__()
        self.trunk = Trunk(trunk, stride_in_1x1)

    def forward(self, image: Tensor) -> Features:
        """Encode `image`, float (B, 3, H, W), already normalised."""
        with self.trunk.arithmetic(image.device):
            return self.trunk(self.trunk.after_stem(self.trunk.stem(image)))


class MemoryEncoder(nn.Module):
    """Picture, mask and the other objects' masks -> the map at stride 16, one for each object."""

    def __init__(self, trunk: str, stride_in_1x1: bool) -> None:
        super().__init__()
        self.trunk = Trunk(trunk, stride_in_1x1)
        stem = self.trunk.stem

        def mask_conv() -> nn.Conv2d:
            return nn.Conv2d(
                1,
                stem.out_channels,
                stem.kernel_size,  # type: ignore[arg-type]
                stem.stride,  # type: ignore[arg-type]
                stem.padding,  # type: ignore[arg-type]
                bias=False,
            )

        self.conv_mask = mask_conv()
        self.conv_others = mask_conv()

    def stem_of_image(self, image: Tensor) -> Tensor:
        """Return the stem's convolution of the picture, which does not depend on the object.

        Args:
            image: float (B, 3, H, W), already normalised.

        Returns:
            float (B, C, H / 2, W / 2).
        """
        with self.trunk.arithmetic(image.device):
            stem: Tensor = self.trunk.stem(image)
            return stem

    def forward(self, stem: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        """Encode every object of a picture.

        Args:
            stem: `stem_of_image` of the picture, added to each object's share.
            masks: float (B, N, H, W) in [0, 1], soft.
            others: float (B, N, H, W) in [0, 1], the other objects of each object.

        Returns:
            float (B * N, C, H / 16, W / 16).
        """
        conv = self.trunk.stem
        planes = torch.stack((masks, others), dim=-1).flatten(0, 1).movedim(-1, 1)  # (B * N, 2, H, W), channels last
        weight = torch.cat((self.conv_mask.weight, self.conv_others.weight), dim=1)
        with self.trunk.arithmetic(masks.device):
            x = F.conv2d(planes, weight, None, conv.stride, conv.padding)  # (B * N, C, H / 2, W / 2)
            x = self.trunk.after_stem(add_to_objects(x, stem))
            # Not the trunk's own forward, which keeps the maps at stride 4 and 8 until the end, for nothing here.
            for block in (*self.trunk.stage4, *self.trunk.stage8, *self.trunk.stage16):
                x = block(x)
            return x
