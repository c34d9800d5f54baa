"""Options of a training run, and the sources of its clips."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from mgseg.data.catalog import Split, find_training_data, find_training_split
from mgseg.data.clips import Clips, Videos
from mgseg.data.layouts import find_all_stills, find_stills
from mgseg.data.stills import Stills
from mgseg.data.transforms import CLIPS, CROWDED_CLIPS, CROWDED_STILLS, STILLS, STM_CLIPS, STM_STILLS
from mgseg.distributed import Processes
from mgseg.errors import DatasetError, MgsegError
from mgseg.training.stages import StageConfig
from mgseg.training.updater import Precision

_CACHE_BYTES = 8 << 30  # decoded pictures in memory, over all processes that draw
MAX_SEED = 2**31  # beside it the generators take the number of the step
_AUGMENTATIONS = {
    "stm": (STM_STILLS, STM_CLIPS),
    "strong": (STILLS, CLIPS),
    "crowded": (CROWDED_STILLS, CROWDED_CLIPS),
}


@dataclass(frozen=True)
class TrainOptions:
    """Options of a run: data, model, device and outputs. What it trains is in StageConfig.

    Attributes:
        out: folder of the run; created.
        stills: folders of still pictures, each one dataset or a folder of several.
        clips: datasets of clips as "NAME=FOLDER" or a folder, see `catalog.find_training_split`.
        data: folder of datasets, in which data are looked for where neither `stills` nor `clips` names any.
        model: a name in `PRESETS`; None: that of the weights to start from, "resnet50" without any.
        motion_prior: False trains plain STM; `init` may have been trained either way.
        stride_in_1x1: the trunk of a network without `init` is ResNet "v1"; see ModelConfig.
        init: weights to start from: a file, a released name, "random", or None, see `start.choose_start`.
        trunk: ImageNet weights of the trunk, loaded into both encoders: a file, or "imagenet" for torchvision's.
        minutes: time for the whole run; its schedule is fitted to it.
        seed: seed of all random numbers.
        num_workers: processes that draw clips; None: see `count_workers`.
        precision: precision of the forward pass.
        device: see `device.find_device`.
        resume: go on from the newest checkpoint in `out`, or start if there is none.
        hold_out: sequences of the clips that are not trained on but scored at each validation.
        validate_every: steps between two validations.
        validate_size: shorter side at which they are scored.
        checkpoint_minutes: time between two checkpoints.
        keep_checkpoints: how many stay.
        log_every: steps of which the log shows the mean.
        tensorboard: also write TensorBoard events.
    """

    out: Path
    stills: tuple[Path, ...] = ()
    clips: tuple[str, ...] = ()
    data: Path | None = None
    model: str | None = None
    motion_prior: bool = True
    stride_in_1x1: bool = False
    init: str | None = None
    trunk: str | None = None
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
    keep_checkpoints: int = 2
    log_every: int = 20
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("keep_checkpoints", "log_every", "validate_every"):
            if getattr(self, name) < 1:
                raise MgsegError(f"{name} must be 1 or more, found {getattr(self, name)}")
        for name in ("validate_size", "checkpoint_minutes", "minutes"):
            value = getattr(self, name) or 0
            if not 0 <= value < math.inf:
                raise MgsegError(f"{name} must be 0 or more, found {value}")
        if not 0 <= self.seed < MAX_SEED:
            raise MgsegError(f"seed must be 0 to {MAX_SEED - 1}, found {self.seed}")


@dataclass(frozen=True)
class Sources:
    """The data of a run.

    Attributes:
        stills: datasets of still pictures.
        clips: datasets of videos, without the sequences held out.
        videos: the same, for the sequence stage.
        held_out: the sequences to score.
        text: what these are, in one line.
    """

    stills: list[Stills]
    clips: list[Clips]
    videos: list[Videos]
    held_out: list[Split]
    text: str

    @property
    def sizes(self) -> dict[str, int]:
        """How many pictures or videos each dataset has, by its name."""
        datasets: list[Stills | Clips] = [*self.stills, *self.clips]
        return {dataset.name: len(dataset) for dataset in datasets}


def count_workers(options: TrainOptions, processes: Processes) -> int:
    """Return how many processes draw clips for this one: all cores for a GPU, one if the network needs the cores."""
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
    roots, splits = _find_data(config.stage, options)
    readers = max(1, count_workers(options, processes)) * processes.world_size
    cache = _CACHE_BYTES // (readers * max(1, len(roots) + len(splits)))
    stills = [Stills(root, of_stills, shorter_side=side, cache_bytes=cache) for root in roots]
    clips, videos, held_out = [], [], []
    for split in splits:
        if scored := [name for name in split.names if name in options.hold_out]:
            held_out.append(split.only(scored))
        trained = split.only(name for name in split.names if name not in options.hold_out)
        if not trained.sequences:
            raise DatasetError(
                f"all of {split.dataset} is held out, nothing is left to train on", "give fewer names with --hold-out"
            )
        clips.append(Clips(trained, of_clips, donors=stills, shorter_side=side, cache_bytes=cache))
        videos.append(Videos(trained, shorter_side=round(config.size.at(0))))
    known = {name for split in held_out for name in split.names}
    if lost := [name for name in options.hold_out if name not in known]:
        raise DatasetError(
            f"no sequence {lost[0]!r} to hold out in {', '.join(split.dataset for split in splits) or 'no clips'}"
        )
    for source in stills:
        source.donors = stills
    return Sources(stills, clips, videos, held_out, _describe(stills, roots, splits))


def _find_data(stage: str, options: TrainOptions) -> tuple[list[Path], list[Split]]:
    """Find the folders of stills and the videos: those that are named, else what the stage needs of `data`."""
    roots = [root for folder in options.stills for root in find_stills(folder) or [folder]]  # Stills says what is wrong
    splits = [find_training_split(text) for text in options.clips]
    if splits or (roots and stage == "static"):
        return roots, splits
    if options.data is None or not options.data.is_dir():
        found = "no folder was given" if options.data is None else f"{options.data} is not a folder"
        own = "--static FOLDER" if stage == "static" else "--clips NAME=FOLDER"
        raise DatasetError(
            f"no data to train on: {found}",
            f"give the folder of datasets with --data or MGSEG_DATA, or your own data with {own}",
        )
    if stage == "static":
        return find_all_stills(options.data), splits
    return roots, [find_training_data(options.data)]


def _describe(stills: list[Stills], roots: list[Path], splits: list[Split]) -> str:
    folders = sorted({str(root.parent) for root in roots})
    texts = [f"{sum(map(len, stills))} stills in {', '.join(folders)}"] if roots else []
    return "; ".join(texts + [f"{s.dataset} {s.name}, {len(s.sequences)} videos in {s.frames_root}" for s in splits])
