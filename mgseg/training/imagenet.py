"""ImageNet weights of the trunks, downloaded once by torchvision into torch's cache."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor

from mgseg.errors import MgsegError, WeightsError
from mgseg.model.network import ModelConfig
from mgseg.model.trunks import TRUNKS


def imagenet_weights(config: ModelConfig) -> tuple[dict[str, Tensor], str]:
    """Load the ImageNet weights of a network's trunk, fetched if they are not in torch's cache yet.

    Returns:
        The state dict under torchvision's names, and the file that it is from.

    Raises:
        MgsegError: torchvision cannot be imported.
        WeightsError: the file cannot be downloaded or is damaged, or the trunk's strides are not torchvision's.
    """
    if config.stride_in_1x1:
        hint = "start with --init random --trunk imagenet, or give a file of ResNet v1 weights with --trunk"
        raise WeightsError(
            "torchvision's ResNet-50 has its strides in the 3x3 convolutions, this network has them in the 1x1", hint
        )
    weights = _find(TRUNKS[config.trunk].imagenet_weights)
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        return weights.get_state_dict(progress=False, check_hash=True), str(file)
    except (URLError, TimeoutError, ConnectionError) as error:
        hint = f"if this computer is offline, download {weights.url} elsewhere and copy it to {file}"
        raise WeightsError(f"cannot download {weights.url}: {getattr(error, 'reason', error)}", hint) from error
    except (OSError, RuntimeError, ValueError, EOFError, LookupError) as error:
        hint = f"delete it and run again: it is then downloaded from {weights.url}"
        raise WeightsError(f"{file} cannot be downloaded or read: {error}", hint) from error


def _find(name: str) -> Any:
    try:
        from torchvision.models import get_weight
    except (ImportError, RuntimeError, OSError) as error:  # RuntimeError: built for another torch
        hint = f"install the torchvision that belongs to torch {torch.__version__}: pip install --upgrade torchvision"
        raise MgsegError(f"torchvision cannot be used with this torch: {error}", hint) from error
    return get_weight(name)
