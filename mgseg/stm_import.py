"""Import of published STM checkpoints (Oh et al., ICCV 2019)."""

from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from mgseg.errors import WeightsError
from mgseg.model.network import ModelConfig
from mgseg.weights import build_model, check_target, read_tensors, save_weights

STM_CONFIG = ModelConfig(motion_prior=False)  # the published STM

# STM's published module names -> ours
_STM_TRUNK = {"conv1": "stem", "bn1": "after_stem.0", "res2": "stage4", "res3": "stage8", "res4": "stage16"}
_STM_NAMES = {
    **{f"Encoder_M.{theirs}": f"memory_encoder.trunk.{ours}" for theirs, ours in _STM_TRUNK.items()},
    **{f"Encoder_Q.{theirs}": f"query_encoder.trunk.{ours}" for theirs, ours in _STM_TRUNK.items()},
    "Encoder_M.conv1_m": "memory_encoder.conv_mask",
    "Encoder_M.conv1_o": "memory_encoder.conv_others",
    "KV_M_r4.Key": "memory_key_value.key",
    "KV_M_r4.Value": "memory_key_value.value",
    "KV_Q_r4.Key": "query_key_value.key",
    "KV_Q_r4.Value": "query_key_value.value",
    "Decoder.convFM": "decoder.compress",
    "Decoder.ResMM": "decoder.block16",
    "Decoder.RF3.convFS": "decoder.refine8.conv",
    "Decoder.RF3.ResFS": "decoder.refine8.skip_block",
    "Decoder.RF3.ResMM": "decoder.refine8.block",
    "Decoder.RF2.convFS": "decoder.refine4.conv",
    "Decoder.RF2.ResFS": "decoder.refine4.skip_block",
    "Decoder.RF2.ResMM": "decoder.refine4.block",
    "Decoder.pred2": "decoder.predict",
}
_STM_CONSTANTS = {f"Encoder_{part}.{name}" for part in "MQ" for name in ("mean", "std")}


def import_stm(source: Path, target: Path, overwrite: bool = False) -> None:
    """Turn a published STM checkpoint (a DataParallel state dict) into one of ours, without motion prior.

    Raises:
        WeightsError: names are missing or unknown, or shapes differ.
        OutputError: see `export_weights`.
    """
    check_target(source, target, overwrite)
    theirs = read_tensors(source)
    ours: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        name = name.removeprefix("module.")
        if name in _STM_CONSTANTS:
            continue
        prefix = next((p for p in _STM_NAMES if name.startswith(p + ".")), None)
        if prefix is None:
            raise WeightsError(f"{source} is not a published STM checkpoint: unknown name {name!r}")
        ours[_STM_NAMES[prefix] + name[len(prefix) :]] = tensor
    model = build_model(source, {"config": asdict(STM_CONFIG), "state_dict": ours})
    save_weights(target, model.config, model.state_dict())
