"""Adaptation of a network to one clip: a short training on its first mask, known as online learning.

The frame is warped into short clips, as still pictures are in training, and a copy of the network learns to segment
them. What it learned is averaged with what it was (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022):
alone it would know this view of the objects only. The paper names online learning among the tricks of challenge entries
that its ablation leaves out; the recipe is ours.
"""

from collections.abc import Callable
from hashlib import sha256
from math import cos, pi
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mgseg.data.objects import find_objects
from mgseg.data.paste import compose
from mgseg.data.scene import ClipRequest, render
from mgseg.data.transforms import FIRST_MASK
from mgseg.device import is_out_of_memory
from mgseg.errors import DeviceError
from mgseg.model.fast.prepare import prepare_for_training
from mgseg.model.network import MotionGuidedSTM
from mgseg.network import Network
from mgseg.training.objective import clip_outcome

OnStep = Callable[[int, int], None]

_FRAMES, _CROP = 2, 384  # of the clip of each step: its frames, and the side of its crop in pixels
_RATE, _TRUNK_RATE = 2e-4, 5e-5  # of new layers and of the trunks, which have seen a million pictures
_SHARE = 0.5  # of the trained weights in the result
_WARM_UP = 0.2  # share of the steps; then a cosine
_KEEP, _JACCARD = 0.5, 0.5  # of the loss: share of the pixels in the cross-entropy, weight of the soft Jaccard loss
_CLIP_NORM = 5.0  # length of the gradient at most
_MIN_AREA = 1e-4  # objects that are smaller are not learned from, unless all are
_MAX_OBJECTS = 3  # of a clip

# The newest result of each network, and what it was made from: corrections segment a clip again and again.
_NEWEST: WeakKeyDictionary[Network, tuple[tuple[Any, ...], MotionGuidedSTM]] = WeakKeyDictionary()


def adapt(
    network: Network, image: NDArray[np.uint8], mask: NDArray[np.uint8], steps: int, on_step: OnStep | None = None
) -> MotionGuidedSTM:
    """Train a copy of a network on a frame with its mask, or return the copy of the last call with the same input.

    Args:
        network: stays as it is.
        image: uint8 (h, w, 3), RGB, at the size at which the network will see the clip.
        mask: uint8 (h, w) with at least one of the ids 1 to 254; 0 background, 255 void.
        steps: steps of training.
        on_step: called with the number of steps done and of all.

    Returns:
        The copy, prepared for inference on the network's device. It may be shared: do not change it.

    Raises:
        DeviceError: the device runs out of memory.
    """
    key = steps, mask.shape, sha256(image.tobytes() + mask.tobytes()).digest()
    newest = _NEWEST.get(network)
    if newest and newest[0] == key:
        return newest[1]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            model = network.prepare(_train(network, image, mask, steps, on_step).eval())
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(f"out of memory on {network.device} while adapting", "leave out --adapt") from error
    _NEWEST[network] = key, model
    return model


def _train(
    network: Network, image: NDArray[np.uint8], mask: NDArray[np.uint8], steps: int, on_step: OnStep | None
) -> MotionGuidedSTM:
    model = prepare_for_training(network.copy(), network.device)
    objects = find_objects(mask, _MIN_AREA) or find_objects(mask, 1 / mask.size)
    if not objects:  # too small to be seen at this size
        return model
    groups: list[dict[str, Any]] = [
        {"params": list(model.trunk_parameters()), "lr": _TRUNK_RATE},
        {"params": list(model.new_parameters()), "lr": _RATE},
    ]
    optimizer = torch.optim.Adam(groups, fused=True)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    warm_up = max(1, round(_WARM_UP * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / warm_up) * (1 + cos(pi * step / steps)) / 2
    )
    side = 16 * max(1, min(_CROP, *mask.shape) // 16)
    request = ClipRequest(_FRAMES, min(len(objects), _MAX_OBJECTS), side, max_skip=1)
    for step in range(steps):
        rng = np.random.default_rng(step)
        scene = compose(
            rng, request, FIRST_MASK, (), name="first mask", pictures=[image], masks=[mask], objects=objects
        )
        clip_outcome(model, render([scene], network.device), _KEEP, _JACCARD).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), _CLIP_NORM)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if on_step:
            on_step(step + 1, steps)
    with torch.no_grad():
        torch._foreach_lerp_(list(model.parameters()), before, 1 - _SHARE)
    return model
