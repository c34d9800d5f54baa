"""What a run is made of: its options, the model to start from, the sources of its clips."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mgseg.data.catalog import Split, find_split
from mgseg.data.clips import Clips, Videos
from mgseg.data.layouts import find_stills
from mgseg.data.stills import Stills
from mgseg.data.transforms import CLIPS, STILLS, STM_CLIPS, STM_STILLS
from mgseg.distributed import Processes
from mgseg.errors import DatasetError
from mgseg.model.fast.winograd import use_winograd
from mgseg.model.network import PRESETS, MotionGuidedSTM
from mgseg.training.stages import StageConfig
from mgseg.training.updater import Precision
from mgseg.weights import load_network, load_trunk

_CACHE_BYTES = 8 << 30  # decoded pictures in memory, over all processes that draw
_AUGMENTATIONS = {"stm": (STM_STILLS, STM_CLIPS), "strong": (STILLS, CLIPS)}


@dataclass(frozen=True)
class TrainOptions:
    """Where a run's data, model and device come from and what it writes; what it does is its StageConfig.

    Attributes:
        out: folder of the run; created.
        stills: folders of still pictures, each one dataset or a folder of several.
        clips: datasets of clips as "DATASET=FOLDER" (see `catalog.find_split`) or a folder in their layout; of
            each the training split is taken.
        model: "resnet50" or "lite"; `init` brings its own.
        motion_prior: False trains plain STM; `init` may have been trained either way.
        stride_in_1x1: the trunk is ResNet "v1"; see ModelConfig.
        init: weights file to start from, or the name of released weights.
        trunk: ImageNet weights of the trunk, loaded into both encoders.
        minutes: time for the whole run; its schedule is fitted to it.
        seed: of everything random.
        num_workers: processes that draw clips; None: see `count_workers`.
        precision: of the forward pass.
        device: see `device.find_device`.
        resume: go on from the newest checkpoint in `out`, or start if there is none.
        hold_out: sequences of the clips that are not trained on but scored at each validation.
        validate_every: steps between two validations.
        validate_size: shorter side at which they are scored.
        checkpoint_minutes: time between two checkpoints.
        keep: checkpoints kept.
        log_every: steps of which the log shows the mean.
        tensorboard: also write TensorBoard events.
    """

    out: Path
    stills: tuple[Path, ...] = ()
    clips: tuple[str, ...] = ()
    model: str = "resnet50"
    motion_prior: bool = True
    stride_in_1x1: bool = False
    init: str | None = None
    trunk: Path | None = None
    minutes: float | None = None
    seed: int = 0
    num_workers: int | None = None
    precision: Precision = "float32"
    device: str = "auto"
    resume: bool = False
    hold_out: tuple[str, ...] = ()
    validate_every: int = 1000
    validate_size: int = 240
    checkpoint_minutes: float = 5.0
    keep: int = 2
    log_every: int = 20
    tensorboard: bool = False


@dataclass(frozen=True)
class Sources:
    """The data of a run.

    Attributes:
        stills: datasets of still pictures.
        clips: datasets of videos, without the sequences held out.
        videos: the same, for the sequence stage.
        held_out: the sequences to score.
    """

    stills: list[Stills]
    clips: list[Clips]
    videos: list[Videos]
    held_out: list[Split]

    @property
    def sizes(self) -> dict[str, int]:
        """How many pictures or videos each dataset has, by its name."""
        datasets: list[Stills | Clips] = [*self.stills, *self.clips]
        return {dataset.name: len(dataset) for dataset in datasets}


def count_workers(options: TrainOptions, processes: Processes) -> int:
    """How many processes draw clips for this one: all cores' worth for a GPU, one where the network needs the cores."""
    if options.num_workers is not None:
        return options.num_workers
    if processes.device.type == "cpu":
        return 1
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    wanted = min(16, max(1, (os.cpu_count() or 1) // here))
    return -int(processes.furthest(-wanted)[0])  # the fewest of any machine: all draw ahead equally far


def build_sources(config: StageConfig, options: TrainOptions, processes: Processes) -> Sources:
    """Find the data.

    Raises:
        DatasetError: some of it is missing, incomplete or of an unknown layout, or there is none for the stage.
    """
    of_stills, of_clips = _AUGMENTATIONS[config.augmentation]
    # Nearly the size of the crop is enough, and cheap to read: crops are seldom enlarged more than by a quarter.
    side = round(1.25 * max(config.size.values))
    roots = [root for folder in options.stills for root in find_stills(folder) or [folder]]  # Stills says what is wrong
    splits = [_find_training_split(text) for text in options.clips]
    readers = max(1, count_workers(options, processes)) * processes.world_size
    cache = _CACHE_BYTES // (readers * max(1, len(roots) + len(splits)))
    stills = [Stills(root, of_stills, shorter_side=side, cache_bytes=cache) for root in roots]
    clips, videos, held_out = [], [], []
    for split in splits:
        if scored := [name for name in split.names if name in options.hold_out]:
            held_out.append(split.only(scored))
        trained = split.only(name for name in split.names if name not in options.hold_out)
        clips.append(Clips(trained, of_clips, donors=stills, shorter_side=side, cache_bytes=cache))
        videos.append(Videos(trained, shorter_side=round(config.size.at(0))))
    known = {name for split in held_out for name in split.names}
    if lost := [name for name in options.hold_out if name not in known]:
        raise DatasetError(f"no sequence {lost[0]!r} to hold out in {', '.join(options.clips) or 'no clips'}")
    _check_kinds(config.stage, stills, clips)
    for source in stills:
        source.donors = stills
    return Sources(stills, clips, videos, held_out)


def build_model(options: TrainOptions, device: torch.device) -> MotionGuidedSTM:
    """Build the network, with the weights to start from, in training mode on the device.

    Raises:
        WeightsError: those weights are missing or of another network.
    """
    start = load_network(options.init) if options.init else None
    config = start.config if start else replace(PRESETS[options.model], stride_in_1x1=options.stride_in_1x1)
    torch.manual_seed(options.seed)
    model = MotionGuidedSTM(replace(config, motion_prior=options.motion_prior))
    if start:
        # Weights of a plain STM get a new prior, those of a guided one may lose theirs; all else is in both.
        model.load_state_dict(start.state_dict(), strict=model.config == start.config)
    if options.trunk:
        load_trunk(model, options.trunk)
    use_winograd(model)
    return model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]


def _find_training_split(text: str) -> Split:
    """Find "DATASET=FOLDER", or a folder in the layout of one: its list "train", all of it without lists."""
    dataset, equals, folder = text.rpartition("=")
    if equals:
        return find_split(dataset, "train", Path(folder))
    has_lists = (Path(folder) / "ImageSets").is_dir() or (Path(folder) / "train").is_dir()
    return find_split(folder, "train" if has_lists else "all", None)


def _check_kinds(stage: str, stills: list[Stills], clips: list[Clips]) -> None:
    if stage != "static" and not clips:
        raise DatasetError(f"the {stage} stage trains on clips, and none are named", "name them with --clips")
    if not stills and not clips:
        raise DatasetError("the static stage trains on stills, and none are named", "name them with --static")
