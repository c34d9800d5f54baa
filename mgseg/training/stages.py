"""The three stages of training, in the paper's own numbers and for a short budget.

The paper (section 3) pre-trains on stills, trains on clips, and ends with sequence learning; it builds on STM,
whose numbers the faithful preset takes. Each stage starts from the weights of the one before:

    mgseg train --stage static   --static STILLS --trunk TRUNK --out runs/static
    mgseg train --stage clips    --static STILLS --clips davis17=DAVIS --init runs/static/weights.pth --out runs/clips
    mgseg train --stage sequence --clips davis17=DAVIS --init runs/clips/weights.pth --out runs/sequence

`--preset faithful`, `--preset fast` (the default) or `--preset crowded` (the same for several objects at once),
`--model resnet50` or `--model lite`, `--minutes` for a budget.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Literal

from mgseg.errors import MgsegError
from mgseg.training.schedule import Schedule, steps

MAX_OBJECTS = 3  # objects of a clip in training (STM)


@dataclass(frozen=True)
class StageConfig:
    """What one stage trains on, for how long, and how. Everything that changes over the run is a Schedule.

    Attributes:
        stage: "static" and "clips" train on short clips, "sequence" on whole videos.
        num_steps: optimiser steps (of the sequence stage: rounds of `batch_size` videos); None: by time alone.
        batch_size: clips a step, over all processes.
        size: side of the square crop, a multiple of 16; in the sequence stage the shorter side of the video,
            0 for the video as it is.
        num_frames: frames of a clip.
        max_skip: the most frames skipped between two frames of a real clip.
        clip_share: share of real clips in the batch, the rest are stills; only where both are given.
        augmentation: how clips are warped and composed: "stm", its affine warps; "strong", elastic warps, pasted
            objects that occlude, blur; "crowded", the same with objects on others, look-alikes, hidden parts and first
            masks that are a little wrong.
        object_weights: (number of objects, weight): how many objects the clips of a step have room for.
        optimizer: "adam" or "adamw".
        rate: learning rate of the new layers.
        trunk_rate: the trunks' rate as a multiple of `rate`.
        weight_decay: on the convolutions' kernels, by AdamW.
        warmup_steps: the rate rises linearly over these.
        cosine: the rate falls along a cosine, otherwise it stays.
        keep: share of the pixels in the cross-entropy, the hardest ones.
        jaccard: weight of the soft Jaccard loss beside the cross-entropy.
        clip_norm: longest gradient; 0: no clipping.
        prior_jitter: move and scale the motion prior's Gaussian at random, as OSMN does in training; the paper
            does not say whether it does.
        ema: decay of the moving average of the weights, which is what gets saved and scored; 0: none.
        max_frames: frames of a video in the sequence stage, a random stretch; 0: all.
        step_every: frames between two optimiser steps in the sequence stage; 0: one step at the video's end.
    """

    stage: Literal["static", "clips", "sequence"]
    num_steps: int | None
    batch_size: Schedule
    size: Schedule
    num_frames: Schedule = field(default_factory=lambda: steps(3))
    max_skip: Schedule = field(default_factory=lambda: steps(5))
    clip_share: Schedule = field(default_factory=lambda: steps(0))
    augmentation: Literal["stm", "strong", "crowded"] = "stm"
    object_weights: tuple[tuple[int, float], ...] = ((MAX_OBJECTS, 1.0),)
    optimizer: Literal["adam", "adamw"] = "adam"
    rate: float = 1e-5
    trunk_rate: float = 1.0
    weight_decay: float = 0.0
    warmup_steps: int = 0
    cosine: bool = False
    keep: Schedule = field(default_factory=lambda: steps(1))
    jaccard: float = 0.0
    clip_norm: float = 0.0
    prior_jitter: bool = False
    ema: float = 0.0
    max_frames: int = 0
    step_every: int = 0

    def __post_init__(self) -> None:
        _check(all(size % 16 == 0 for size in self.size.values), "crop sizes are multiples of 16")
        _check(not self.batch_size.linear, "a batch changes in steps, not along a line")
        _check(all(frames >= 2 for frames in self.num_frames.values), "a clip has two frames or more")
        _check(all(b >= 1 and b == int(b) for b in self.batch_size.values), "a batch is a whole number from 1")
        _check(self.num_steps is None or self.num_steps >= 0, "steps are 0 or more")
        _check(all(0 <= share <= 1 for share in self.clip_share.values), "the share of clips is in 0..1")
        _check(all(0 < keep <= 1 for keep in self.keep.values), "the share of pixels kept is in 0..1")
        _check(0 < self.rate < float("inf") and 0 <= self.ema < 1, "the rate is above 0, the decay in 0..1")
        _check(all(skip >= 1 for skip in self.max_skip.values), "a skip is of one frame or more")
        _check(
            all(1 <= count < 255 and weight > 0 for count, weight in self.object_weights),
            "counts are from 1 to 254, weights above 0",
        )
        for name in ("trunk_rate", "weight_decay", "warmup_steps", "jaccard", "clip_norm", "max_frames", "step_every"):
            _check(getattr(self, name) >= 0, f"{name} is 0 or more")
        if self.stage != "sequence":
            _check(all(size >= 16 for size in self.size.values), "a crop has 16 pixels or more a side")


def _check(holds: bool, rule: str) -> None:
    if not holds:
        raise ValueError(rule)


_FIVE_MORE_EVERY_20_EPOCHS = steps(5, *((5.0 * i, (i - 1) / 13) for i in range(2, 6)))  # of 260, STM
_short = partial(  # what the three stages of a short budget share
    StageConfig,
    augmentation="strong",
    object_weights=((1, 0.6), (2, 0.3), (3, 0.1)),
    optimizer="adamw",
    trunk_rate=0.25,
    weight_decay=0.01,
    cosine=True,
    jaccard=0.5,
    clip_norm=5.0,
    prior_jitter=True,
)

STAGES: dict[str, dict[str, StageConfig]] = {
    # The paper's and STM's: Adam at 1e-5, batch 4, crops of 384, cross-entropy, frozen batch norm. The papers
    # give no number of steps for the stills; for the clips 260 epochs of YouTube-VOS's 3471 videos.
    "faithful": {
        "static": StageConfig("static", 300_000, steps(4), steps(384)),
        "clips": StageConfig(
            "clips",
            225_000,
            steps(4),
            steps(384),
            max_skip=_FIVE_MORE_EVERY_20_EPOCHS,
            clip_share=steps(1),
        ),
        "sequence": StageConfig("sequence", 3_471, steps(8), steps(0)),
    },
    # Hours instead of weeks: a high rate with warm-up and cosine, crops that grow up to the size that the
    # network is used at, real clips mixed in from the beginning.
    "fast": {
        "static": _short(
            "static",
            20_000,
            steps(8),
            steps(192, (256, 0.4), (384, 0.8)),
            max_skip=steps(3, (6, 0.3), (10, 0.6)),
            clip_share=Schedule(((0.0, 0.15), (1.0, 0.6)), linear=True),
            rate=3e-4,
            warmup_steps=200,
            keep=Schedule(((0.0, 1.0), (0.2, 1.0), (0.7, 0.25)), linear=True),
            ema=0.999,
        ),
        "clips": _short(
            "clips",
            10_000,
            steps(8),
            steps(384),
            max_skip=steps(5, (10, 0.2), (15, 0.4), (25, 0.6), (5, 0.9)),
            clip_share=steps(0.7),
            rate=1e-4,
            warmup_steps=100,
            keep=steps(0.25),
            ema=0.999,
        ),
        "sequence": _short(
            "sequence",
            300,
            steps(1),
            steps(0),
            rate=1e-5,
            warmup_steps=10,
            keep=steps(0.25),
            step_every=8,
            ema=0.99,
        ),
    },
}
# The short budget's, for several objects at once.
_CROWDED = ((1, 0.4), (2, 0.25), (3, 0.2), (4, 0.1), (6, 0.05))
STAGES["crowded"] = {
    name: replace(config, augmentation="crowded", object_weights=_CROWDED) for name, config in STAGES["fast"].items()
}


def configure(stage: str, preset: str = "faithful", changes: Mapping[str, object] | None = None) -> StageConfig:
    """Take a stage of a preset and change some of its fields.

    Args:
        stage: "static", "clips" or "sequence".
        preset: "faithful", "fast" or "crowded".
        changes: values by the name of their field; None leaves the preset's; a text becomes a Schedule
            where the field is one (see `Schedule.parse`).

    Raises:
        MgsegError: the stage or preset is unknown, or a value is invalid.
    """
    if preset not in STAGES or stage not in STAGES[preset]:
        raise MgsegError(
            f"no stage {stage!r} of a preset {preset!r}",
            f"stages: {', '.join(STAGES['fast'])}; presets: {', '.join(STAGES)}",
        )
    config = STAGES[preset][stage]
    schedules = {field.name for field in fields(config) if isinstance(getattr(config, field.name), Schedule)}
    try:
        values = {
            name: Schedule.parse(str(value)) if name in schedules and not isinstance(value, Schedule) else value
            for name, value in (changes or {}).items()
            if value is not None
        }
        return replace(config, **values)  # type: ignore[arg-type]
    except ValueError as error:
        raise MgsegError(f"these settings do not suit the stage: {error}") from error
