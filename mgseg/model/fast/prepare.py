"""Preparation of a network for inference or training: the same function in fewer passes over memory.

The rest of mgseg knows the fast forms by this module alone, and the network by `convolve` alone.
"""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mgseg.model.encoders import MemoryEncoder
from mgseg.model.fast.int8 import use_int8
from mgseg.model.fast.winograd import order_kernels, use_winograd
from mgseg.model.network import MotionGuidedSTM


def prepare_for_inference(
    model: MotionGuidedSTM,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    int8: bool = False,
) -> MotionGuidedSTM:
    """Fold the batch norms of `model`, in place, put channels last and let convolutions take the fastest way.

    Args:
        model: in evaluation mode.
        device: to which it is moved.
        dtype: type in which the network computes.
        int8: let most convolutions take 8-bit integers, which changes the results a little (see `fast.int8`).
    """
    fold_batch_norm(model)
    if int8:
        use_int8(model)
    use_winograd(model)
    model = model.to(memory_format=torch.channels_last)
    if torch.device(device).type == "cpu" and dtype == torch.float32:
        order_kernels(model)
    return model.to(device)


def prepare_for_training(model: MotionGuidedSTM, device: torch.device | str = "cpu") -> MotionGuidedSTM:
    """Move `model` to a device, put channels last, let wide convolutions take the fastest way; in training mode."""
    use_winograd(model)
    return model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]


@torch.no_grad()
def fold_batch_norm(model: MotionGuidedSTM) -> None:
    """Fold every batch norm of `model`, in place; it must be in evaluation mode and is for inference afterwards.

    The stem of the memory encoder is a sum of three convolutions in front of one batch norm: all three are scaled,
    the shift goes to the picture's alone.
    """
    for encoder in (model.query_encoder, model.memory_encoder):
        trunk = encoder.trunk
        norm = trunk.after_stem[0]
        if isinstance(norm, nn.Identity):
            continue  # folded already
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None
        if isinstance(encoder, MemoryEncoder):
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            for conv in (encoder.conv_mask, encoder.conv_others):
                conv.weight.mul_(scale.view(-1, 1, 1, 1))
        trunk.stem = fuse_conv_bn_eval(trunk.stem, norm)
        trunk.after_stem[0] = nn.Identity()
        _fold_children(trunk)


def _fold_children(module: nn.Module) -> None:
    """Fold each batch norm that is defined right behind a convolution, as the trunks' blocks have them."""
    before: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before is not None:
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(module, name, nn.Identity())
        _fold_children(child)
        before = (name, child) if isinstance(child, nn.Conv2d) else None
