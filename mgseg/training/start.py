"""Start of a run: choice of the weights, and the network with them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mgseg.errors import MgsegError, WeightsError
from mgseg.model.fast.prepare import prepare_for_training
from mgseg.model.network import PRESETS, ModelConfig, MotionGuidedSTM
from mgseg.training.build import TrainOptions
from mgseg.training.imagenet import imagenet_weights
from mgseg.weights import load_network, load_trunk, read_checkpoint, read_tensors, released_weights

RANDOM, IMAGENET = "random", "imagenet"  # for --init, for --trunk
BEFORE = {"clips": "static", "sequence": "clips"}  # the stage that each one builds on


@dataclass(frozen=True)
class Start:
    """The weights that a run starts from.

    Attributes:
        weights: file or released name; None for random ones.
        text: what these are, in one line.
    """

    weights: str | None
    text: str


def choose_start(stage: str, options: TrainOptions) -> Start:
    """Choose the weights: those that are named, of the stage before beside this run, or the released ones.

    Raises:
        WeightsError: no weights of that network are released.
    """
    if options.init == RANDOM or (options.trunk and not options.init):
        return Start(None, f"random weights, the trunk from {options.trunk}" if options.trunk else "random weights")
    if options.init:
        return Start(options.init, options.init)
    before = BEFORE.get(stage)
    file = options.out.parent / before / "weights.pth" if before else None
    if file and file.is_file():
        return Start(str(file), f"{file}, of the stage before")
    name = _released(options.model or next(iter(PRESETS)))
    return Start(name, f"{name}, which ships with mgseg" + (f" (there is no {file})" if file else ""))


def _released(model: str) -> str:
    """Name the released weights of a network, the best where there are several."""
    trunk = PRESETS[model].trunk
    found = [w for w in released_weights().values() if w.path.is_file()]
    found = [weights for weights in found if read_checkpoint(weights.path)["config"].get("trunk") == trunk]
    if not found:
        hint = "start from ImageNet weights of the trunk with --init random --trunk imagenet"
        raise WeightsError(f"no weights of {model} ship with mgseg", hint)
    return max(found, key=lambda weights: max(weights.scores.values(), default=0.0)).name


def build_model(start: Start, options: TrainOptions, device: torch.device) -> MotionGuidedSTM:
    """Build the network with the weights to start from, in training mode on the device.

    Raises:
        WeightsError: those weights are missing or of another network.
    """
    before = load_network(start.weights) if start.weights else None
    if before:
        _check_model(start.text, before.config, options)
        config = before.config
    else:
        config = replace(PRESETS[options.model or next(iter(PRESETS))], stride_in_1x1=options.stride_in_1x1)
    torch.manual_seed(options.seed)
    model = MotionGuidedSTM(replace(config, motion_prior=options.motion_prior))
    if before:
        # Only the prior's weights may differ: plain STM weights get a new prior, --no-motion-prior drops it.
        model.load_state_dict(before.state_dict(), strict=model.config == before.config)
    if options.trunk == IMAGENET:
        load_trunk(model, *imagenet_weights(model.config))
    elif options.trunk:
        load_trunk(model, read_tensors(Path(options.trunk)), options.trunk)
    return prepare_for_training(model, device)


def rebuild_model(
    checkpoint: Path, config: Mapping[str, Any], options: TrainOptions, device: torch.device
) -> MotionGuidedSTM:
    """Build the network of a checkpoint of the run, still without its weights.

    Raises:
        MgsegError: the options ask for another network.
    """
    before = ModelConfig(**config)
    _check_model(str(checkpoint), before, options)
    if before.motion_prior != options.motion_prior:
        wanted = "--motion-prior" if before.motion_prior else "--no-motion-prior"
        raise MgsegError(f"{checkpoint} cannot be resumed: it was trained with {wanted}", f"add {wanted}")
    torch.manual_seed(options.seed)
    return prepare_for_training(MotionGuidedSTM(before), device)


def _check_model(what: str, config: ModelConfig, options: TrainOptions) -> None:
    if options.model and PRESETS[options.model].trunk != config.trunk:
        found = next((name for name, preset in PRESETS.items() if preset.trunk == config.trunk), config.trunk)
        raise WeightsError(
            f"{what}: its network is {found}, --model asks for {options.model}",
            "leave out --model, or choose other weights with --init or another folder with --out",
        )
