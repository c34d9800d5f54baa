"""Checkpoint files: finding, loading, saving, exporting. No network access.

Format: {"format": 1, "config": fields of ModelConfig, "state_dict": tensors}, and further entries of numbers by name.
A training checkpoint holds its state as "training" and loads the same way. Files are read with weights_only=True:
pickled code never runs.
"""

import hashlib
import json
import pickle
import struct
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgseg.errors import OutputError, WeightsError
from mgseg.files.whole_file import cannot_write, make_folder, whole_file
from mgseg.model.encoders import Trunk
from mgseg.model.network import PRESETS, ModelConfig, MotionGuidedSTM

FORMAT = 1
AUTO = "auto"
TRAINING = "training"  # the entry with which a training is resumed
_WEIGHTS = ("format", "config", "state_dict")  # entries of every checkpoint

# What torch.load raises for a file that is cut short, damaged, malicious, or something else.
_DAMAGED = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, TypeError, ValueError),
    *(AttributeError, AssertionError, ArithmeticError, MemoryError, struct.error),
)


@dataclass(frozen=True)
class ReleasedWeights:
    """An entry of weights/released.json: a checkpoint that ships with mgseg."""

    name: str
    file: str
    sha256: str
    scores: dict[str, float] = field(default_factory=dict)  # protocol -> J&F in percent

    @property
    def path(self) -> Path:
        """Path of the file, which may be missing."""
        return weights_folder() / self.file

    def is_intact(self) -> bool:
        """Whether the file is there and has the released hash."""
        return self.path.is_file() and sha256_of(self.path) == self.sha256


def weights_folder() -> Path:
    """Return the folder of released weights: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def released_weights() -> dict[str, ReleasedWeights]:
    """Return the released weights by name, the largest network first."""
    index = weights_folder() / "released.json"
    if not index.is_file():
        return {}
    entries = json.loads(index.read_text(encoding="utf-8"))
    return {entry["name"]: ReleasedWeights(**entry) for entry in entries}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def choose_weights(device_type: str) -> str:
    """Return the name that "auto" stands for on a device: on a GPU the highest score, on a CPU the lightest network."""
    released = released_weights()
    if not released:
        raise WeightsError("this copy of mgseg contains no released weights", "give a file with --weights")
    if device_type == "cpu":
        return list(released)[-1]
    return max(released, key=lambda name: max(released[name].scores.values(), default=0.0))


def find_weights(name_or_path: str | Path) -> Path:
    """Return the file of a released name, whose hash is checked, or of a path.

    Raises:
        WeightsError: neither a released name nor a file, or a released file of another hash.
    """
    released = released_weights()
    entry = released.get(str(name_or_path))
    if entry is None:
        path = Path(name_or_path)
        if not path.is_file():
            known = ", ".join(released) or "none"
            raise WeightsError(
                f"there are no weights {str(name_or_path)!r}", f"give a file, or a released name: {known}"
            )
        return path
    if not entry.path.is_file():
        raise WeightsError(f"weights {entry.name!r} should be at {entry.path}, but there is no such file")
    if not entry.is_intact():
        raise WeightsError(
            f"{entry.path} is not the released file: expected sha256 {entry.sha256[:12]}..., "
            f"found {sha256_of(entry.path)[:12]}...",
            "download the file again, or give its path to use it as it is",
        )
    return entry.path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read an mgseg checkpoint onto the CPU and check its form; see the top of this file.

    Raises:
        WeightsError: not found, not a checkpoint, of another format, or damaged.
    """
    entries = read_tensors(path)
    if entries.get("format") != FORMAT or not entries.keys() >= {*_WEIGHTS}:
        hint = "convert a published STM checkpoint with: mgseg weights import FILE -o NEW"
        raise WeightsError(f"{path} is not an mgseg checkpoint of format {FORMAT}", hint)
    return entries


def extra_entries(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a checkpoint that are neither its weights nor the state of a training."""
    return {name: entry for name, entry in checkpoint.items() if name not in (*_WEIGHTS, TRAINING)}


def read_tensors(path: Path) -> dict[str, Any]:
    """Read a file of tensors in a dict."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about unusual pickles: these files load, or fail below
            entries = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"no weights file {path}") from error
    except _DAMAGED as error:
        raise WeightsError(f"{path} cannot be read as weights", "the file is damaged or not a checkpoint") from error
    if not isinstance(entries, dict) or not all(isinstance(key, str) for key in entries):
        raise WeightsError(f"{path} contains no weights: expected a dict with names, found {type(entries).__name__}")
    return entries


def build_model(path: Path, entries: Mapping[str, Any]) -> MotionGuidedSTM:
    """Build the model of a checkpoint read from `path`; float32, on the CPU, in evaluation mode.

    Raises:
        WeightsError: the configuration is unknown, or tensors are missing, extra or of other shapes.
    """
    try:
        model = MotionGuidedSTM(ModelConfig(**entries["config"]))
        model.load_state_dict(entries["state_dict"])
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[:2])
        raise WeightsError(f"{path} does not fit its own configuration: {reason[:200]}") from error
    return model.eval()


def load_network(weights: str | Path) -> MotionGuidedSTM:
    """Load a network as it was trained, to train it further; float32, on the CPU, in evaluation mode.

    Args:
        weights: a released name or a file.

    Raises:
        WeightsError: not found, damaged, or of another architecture.
    """
    path = find_weights(weights)
    return build_model(path, read_checkpoint(path))


def save_weights(
    path: Path,
    config: ModelConfig,
    state_dict: Mapping[str, Tensor],
    *,
    half: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint; the file appears whole or not at all.

    Args:
        path: the file.
        config: config of the network.
        state_dict: state dict of the network, without prefixes.
        half: store floating-point tensors in half precision.
        extra: further entries of numbers, lists and dicts, and under "training" the state of a training.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for name, tensor in state_dict.items()
    }
    entries = {"format": FORMAT, "config": asdict(config), "state_dict": tensors, **(extra or {})}
    make_folder(path.parent)
    with whole_file(path, durable=True) as part:  # a training that a power cut ends goes on from it
        try:
            torch.save(entries, part)
        except RuntimeError as error:  # torch's word for a full disk
            raise cannot_write(path, error) from error


def save_random_weights(preset: str, folder: Path) -> Path:
    """Write random, reproducible weights of a network of `PRESETS` into a folder, and return the file.

    Raises:
        WeightsError: there is no such network.
    """
    if preset not in PRESETS:
        raise WeightsError(f"there is no network {preset!r}", f"choose from {', '.join(PRESETS)}")
    path = folder / f"random-{preset}.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_weights(path, PRESETS[preset], MotionGuidedSTM(PRESETS[preset]).state_dict())
    return path


def export_weights(source: Path, target: Path, overwrite: bool = False) -> None:
    """Write a checkpoint without the state of its training, its tensors in half precision.

    Raises:
        WeightsError: the source is no checkpoint of ours.
        OutputError: the target is the source, exists while `overwrite` is off, or cannot be written.
    """
    check_target(source, target, overwrite)
    entries = read_checkpoint(source)
    model = build_model(source, entries)
    save_weights(target, model.config, model.state_dict(), half=True, extra=extra_entries(entries))


def check_target(source: Path, target: Path, overwrite: bool) -> None:
    if target.resolve() == source.resolve():
        raise OutputError(f"{target} is an input of this command and would be overwritten", "choose another path")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} already exists", "replace it with --overwrite")


def load_trunk(model: MotionGuidedSTM, weights: Mapping[str, Any], source: str) -> None:
    """Fill both encoders' trunks with ImageNet weights under torchvision's names.

    What the trunk does not have (later stages, the classifier) is passed over.

    Args:
        model: to fill.
        weights: the state dict.
        source: where it is from, for the error.

    Raises:
        WeightsError: it lacks a tensor of the trunk, or one has another shape.
    """
    for trunk in (model.query_encoder.trunk, model.memory_encoder.trunk):
        try:
            trunk.load_state_dict({name: weights[_torchvision_name(trunk, name)] for name in trunk.state_dict()})
        except (KeyError, RuntimeError) as error:
            hint = f"torchvision calls its weights {trunk.spec.imagenet_weights}"
            raise WeightsError(f"{source} does not fit a {model.config.trunk} trunk: {error}", hint) from error


def _torchvision_name(trunk: Trunk, name: str) -> str:
    names = trunk.spec.torchvision_names
    prefix = next(p for p in names if name.startswith(p + "."))
    return names[prefix] + name[len(prefix) :]
