"""`mgseg train`: flags only; the work is `mgseg.training.train.train_stage`."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mgseg.cli import console
from mgseg.cli.options import Threads, option


class Stage(StrEnum):
    """The stages, in the paper's order."""

    static = "static"
    clips = "clips"
    sequence = "sequence"


class Preset(StrEnum):
    """Named settings of a stage: the paper's, for a short budget, or for several objects at once."""

    faithful = "faithful"
    fast = "fast"
    crowded = "crowded"


class Precision(StrEnum):
    """Numeric precision of the forward pass."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


_DATA, _MODEL, _STAGE, _RUN = "Data", "Network", "Stage", "Run"


def train(
    stage: Annotated[
        Stage,
        option(
            "--stage",
            panel=_STAGE,
            text="static: clips made from photographs; clips: short clips of videos; sequence: whole videos.",
        ),
    ],
    preset: Annotated[
        Preset,
        option(
            "--preset",
            panel=_STAGE,
            text="faithful: the paper's settings; fast: for hours instead of weeks; crowded: fast, for many objects.",
        ),
    ] = Preset.fast,
    steps: Annotated[
        int | None,
        option("--steps", panel=_STAGE, text="Number of optimiser steps; 0: as many as --minutes allows.", min=0),
    ] = None,
    batch: Annotated[
        str | None,
        option(
            "--batch",
            panel=_STAGE,
            text="Clips in each step. May be a schedule: 8,16@0.5 is 16 from half of the run on.",
        ),
    ] = None,
    size: Annotated[
        str | None, option("--size", panel=_STAGE, text="Side of the crop in pixels. May be a schedule: 256,384@0.5.")
    ] = None,
    rate: Annotated[float | None, option("--rate", panel=_STAGE, text="Learning rate of the new layers.")] = None,
    changes: Annotated[
        list[str] | None,
        option(
            "--set",
            panel=_STAGE,
            text="Change any other setting, such as max_skip=5,10@0.4, ema=0.999, step_every=8 or log_every=5. "
            "`--set help` lists all fields. Repeatable.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        option(
            "--data",
            panel=_DATA,
            text="Folder with your datasets, used when --static and --clips are not given.",
            envvar="MGSEG_DATA",
        ),
    ] = None,
    static: Annotated[
        list[Path] | None,
        option(
            "--static", panel=_DATA, text="Folder of photographs with masks, or a folder of such folders; repeatable."
        ),
    ] = None,
    clips: Annotated[
        list[str] | None,
        option(
            "--clips",
            panel=_DATA,
            text="Videos: davis16=FOLDER, davis17=FOLDER, youtube-vos-2019=FOLDER, or NAME=FOLDER for your own; "
            "repeatable.",
        ),
    ] = None,
    hold_out: Annotated[
        str,
        option(
            "--hold-out",
            panel=_DATA,
            text="Videos to score with --validate-every instead of training on them: NAME,NAME.",
        ),
    ] = "",
    model: Annotated[
        str | None,
        option(
            "--model",
            panel=_MODEL,
            text="Network to train: lite, resnet50, ... (an unknown name prints the list).",
            show_default="that of the weights to start from",
        ),
    ] = None,
    init: Annotated[
        str | None,
        option(
            "--init",
            panel=_MODEL,
            text="Weights to start from: a file, a name from `mgseg weights list`, or random.",
            show_default="weights.pth of the previous stage, in the folder beside --out, or else the shipped weights",
        ),
    ] = None,
    trunk: Annotated[
        str | None,
        option(
            "--trunk",
            panel=_MODEL,
            text="ImageNet weights of the trunk: imagenet (torchvision's, downloaded once) or a file.",
        ),
    ] = None,
    motion_prior: Annotated[
        bool,
        option(
            "--motion-prior/--no-motion-prior",
            panel=_MODEL,
            text="Off gives plain STM. Not stored in --init weights: repeat it for every stage.",
        ),
    ] = True,
    out: Annotated[
        Path | None,
        option(
            "--out",
            panel=_RUN,
            text="Folder for the run: weights.pth, best.pth, checkpoints, log.jsonl, pictures.",
            show_default="runs/STAGE",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        option(
            "--minutes",
            panel=_RUN,
            text="Time for the whole run, which ends after this time or after --steps, whichever comes first.",
            min=0,
        ),
    ] = None,
    resume: Annotated[
        bool, option("--resume", panel=_RUN, text="Continue from the newest checkpoint in --out.")
    ] = False,
    validate_every: Annotated[
        int, option("--validate-every", panel=_RUN, text="Score the --hold-out videos every N steps.", min=1)
    ] = 1000,
    seed: Annotated[int, option("--seed", panel=_RUN, text="Seed of all random numbers.", min=0)] = 0,
    device: Annotated[str, option("--device", panel=_RUN, text="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    threads: Threads = None,  # by its callback
    precision: Annotated[
        Precision, option("--precision", panel=_RUN, text="Numeric precision of the network.")
    ] = Precision.float32,
    workers: Annotated[
        int | None,
        option(
            "--workers",
            panel=_RUN,
            text="Number of processes that prepare clips.",
            min=0,
            show_default="depends on the device",
        ),
    ] = None,
    tensorboard: Annotated[bool, option("--tensorboard", panel=_RUN, text="Also write a TensorBoard log.")] = False,
) -> None:
    """Train one stage: static, clips or sequence. Start it with torchrun to use several GPUs or machines.

    With --stage alone, the data comes from the folder MGSEG_DATA and the weights from the previous stage.

    A schedule is a value that changes over the run: 192,256@0.4 is 256 after 40 % of it, 0.1..0.6 changes linearly.

    The last line on stdout is the weights file, or the newest checkpoint if the run was interrupted.
    """
    from mgseg.training.build import TrainOptions
    from mgseg.training.settings import parse_settings
    from mgseg.training.stages import configure
    from mgseg.training.train import train_stage

    given = {"num_steps": steps, "batch_size": batch, "size": size, "rate": rate}
    texts = [f"{name}={value}" for name, value in given.items() if value is not None]
    of_stage, of_run = parse_settings([*texts, *(changes or ())])
    options = TrainOptions(
        out=out or Path("runs") / stage.value,
        stills=tuple(static or ()),
        clips=tuple(clips or ()),
        data=data,
        model=model,
        motion_prior=motion_prior,
        init=init,
        trunk=trunk,
        minutes=minutes,
        seed=seed,
        num_workers=workers,
        precision=precision.value,
        device=device,
        resume=resume,
        hold_out=tuple(name.strip() for name in hold_out.split(",") if name.strip()),
        validate_every=validate_every,
        tensorboard=tensorboard,
        **of_run,
    )
    with console.progress(stage.value, "steps") as advance:
        result = train_stage(configure(stage.value, preset.value, of_stage), options, notify=partial(_show, advance))
    if result.is_main:
        console.result(str(result.weights))
    if result.stopped:
        if result.is_main:
            console.message(f"stopped after {result.num_steps} steps; repeat the command with --resume to continue")
        raise typer.Exit(1)


def _show(advance: console.Advance, record: dict[str, Any]) -> None:
    step = record["step"]
    if record["event"] == "start":
        console.message(f"data: {record['data']}")
        console.message(f"start: {record['weights']}")
        console.message(f"output: {record['options']['out']}")
    elif record["event"] == "step":
        found = "  ".join(f"{name} {record[name]:.3f}" for name in ("loss", "iou") if name in record)
        speed = f"size {record['size']}  {record['step_seconds']:.2f} s a step"
        advance(step, round(step / record["progress"]) if record["progress"] else None)
        console.message(f"{record['progress']:6.1%}  step {step}  {found}  {speed}")
    elif record["event"] == "validation":
        console.message(f"step {step}  J&F {100 * record['score']:.1f}")
    elif record["event"] == "problem":
        console.warning(f"skipped: {record['message']}")
    elif record["event"] == "end":
        if record["problems"]:
            console.warning(f"{record['problems']} file(s) could not be used; log.jsonl names them")
        if not record["new_steps"]:
            console.message(f"nothing to do: this run has already finished its {step} steps")
