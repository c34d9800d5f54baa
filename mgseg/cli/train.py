"""`mgseg train`: flags only; the work is `mgseg.training.train.train_stage`."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mgseg.cli import console
from mgseg.cli.options import option


class Stage(StrEnum):
    """The stages, in the paper's order."""

    static = "static"
    clips = "clips"
    sequence = "sequence"


class Preset(StrEnum):
    """The paper's numbers, or those for a short budget."""

    faithful = "faithful"
    fast = "fast"


class Network(StrEnum):
    """The shapes that the network comes in."""

    resnet50 = "resnet50"
    lite = "lite"


class Precision(StrEnum):
    """Of the forward pass."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


_DATA, _MODEL, _STAGE, _RUN = "Data", "Model", "Changes to the preset", "Run"


def train(
    stage: Annotated[Stage, option("--stage", panel=_RUN, text="What to train on.")],
    out: Annotated[
        Path,
        option("--out", panel=_RUN, text="Folder of the run: weights.pth, best.pth, checkpoints, log.jsonl, pictures."),
    ],
    preset: Annotated[Preset, option("--preset", panel=_RUN, text="The paper's numbers, or a short budget's.")] = (
        Preset.fast
    ),
    static: Annotated[
        list[Path] | None, option("--static", panel=_DATA, text="Folder of stills, or of several such; repeatable.")
    ] = None,
    clips: Annotated[
        list[str] | None, option("--clips", panel=_DATA, text="DATASET=FOLDER, as davis16=DAVIS; repeatable.")
    ] = None,
    hold_out: Annotated[
        str, option("--hold-out", panel=_DATA, text="Sequences to score, not to train on: NAME,NAME.")
    ] = "",
    model: Annotated[
        Network, option("--model", panel=_MODEL, text="The network; --init brings its own.")
    ] = Network.resnet50,
    motion_prior: Annotated[
        bool,
        option(
            "--motion-prior/--no-motion-prior",
            panel=_MODEL,
            text="Off is plain STM; to be said at every stage, --init does not bring it.",
        ),
    ] = True,
    stride_in_1x1: Annotated[
        bool, option("--stride-in-1x1", panel=_MODEL, text="The trunk is ResNet v1: strides in 1x1 convolutions.")
    ] = False,
    init: Annotated[str | None, option("--init", panel=_MODEL, text="Weights to start from: file or name.")] = None,
    trunk: Annotated[Path | None, option("--trunk", panel=_MODEL, text="ImageNet weights of the trunk.")] = None,
    steps: Annotated[
        int | None, option("--steps", panel=_STAGE, text="Optimiser steps; 0: as many as fit into --minutes.", min=0)
    ] = None,
    batch: Annotated[str | None, option("--batch", panel=_STAGE, text="Clips a step; may change.")] = None,
    size: Annotated[str | None, option("--size", panel=_STAGE, text="Side of the crop; may change.")] = None,
    frames: Annotated[str | None, option("--frames", panel=_STAGE, text="Frames of a clip; may change.")] = None,
    max_skip: Annotated[str | None, option("--max-skip", panel=_STAGE, text="Longest skip; may change.")] = None,
    clip_share: Annotated[
        str | None, option("--clip-share", panel=_STAGE, text="Share of real clips; may change.")
    ] = None,
    rate: Annotated[float | None, option("--rate", panel=_STAGE, text="Learning rate of new layers.")] = None,
    ema: Annotated[float | None, option("--ema", panel=_STAGE, text="Decay of the weights' average; 0: none.")] = None,
    max_frames: Annotated[
        int | None, option("--max-frames", panel=_STAGE, text="Frames of a video in the sequence stage.", min=0)
    ] = None,
    step_every: Annotated[
        int | None,
        option("--step-every", panel=_STAGE, text="Frames a step in the sequence stage; 0: the video.", min=0),
    ] = None,
    minutes: Annotated[
        float | None,
        option(
            "--minutes",
            panel=_RUN,
            text="Of the whole run; it ends then, or with its --steps, whichever is first.",
            min=0,
        ),
    ] = None,
    resume: Annotated[bool, option("--resume", panel=_RUN, text="Go on from the newest checkpoint.")] = False,
    seed: Annotated[int, option("--seed", panel=_RUN, text="Of everything random.")] = 0,
    device: Annotated[str, option("--device", panel=_RUN, text="cpu, cuda, cuda:N, mps, auto.")] = "auto",
    precision: Annotated[Precision, option("--precision", panel=_RUN, text="Of the network.")] = Precision.float32,
    workers: Annotated[int | None, option("--workers", panel=_RUN, text="Processes that draw clips.", min=0)] = None,
    validate_every: Annotated[
        int, option("--validate-every", panel=_RUN, text="Steps between two scorings of --hold-out.", min=1)
    ] = 1000,
    validate_size: Annotated[
        int, option("--validate-size", panel=_RUN, text="Shorter side of the frames in these.", min=0)
    ] = 240,
    checkpoint_minutes: Annotated[
        float, option("--checkpoint-minutes", panel=_RUN, text="Time between two.", min=0)
    ] = 5,
    keep: Annotated[int, option("--keep", panel=_RUN, text="Checkpoints kept.", min=1)] = 2,
    log_every: Annotated[int, option("--log-every", panel=_RUN, text="Steps in one line of the log.", min=1)] = 20,
    tensorboard: Annotated[bool, option("--tensorboard", panel=_RUN, text="Write its events too.")] = False,
) -> None:
    """Train one stage: static, clips or sequence; under torchrun on several devices or machines.

    What may change over the run is written 192,256@0.4 (256 from 40 % of the run on) or 0.1..0.6 (along a line).

    The last line on stdout is the weights file, or of a run that was stopped its checkpoint.
    """
    from mgseg.training.build import TrainOptions
    from mgseg.training.stages import configure
    from mgseg.training.train import train_stage

    changes = {
        "num_steps": steps,
        "batch_size": batch,
        "size": size,
        "num_frames": frames,
        "max_skip": max_skip,
        "clip_share": clip_share,
        "rate": rate,
        "ema": ema,
        "max_frames": max_frames,
        "step_every": step_every,
    }
    options = TrainOptions(
        out=out,
        stills=tuple(static or ()),
        clips=tuple(clips or ()),
        model=model.value,
        motion_prior=motion_prior,
        stride_in_1x1=stride_in_1x1,
        init=init,
        trunk=trunk,
        minutes=minutes,
        seed=seed,
        num_workers=workers,
        precision=precision.value,
        device=device,
        resume=resume,
        hold_out=tuple(name for name in hold_out.split(",") if name),
        validate_every=validate_every,
        validate_size=validate_size,
        checkpoint_minutes=checkpoint_minutes,
        keep=keep,
        log_every=log_every,
        tensorboard=tensorboard,
    )
    with console.progress(stage.value, "steps") as advance:
        result = train_stage(configure(stage.value, preset.value, changes), options, notify=partial(_show, advance))
    if result.is_main:
        console.result(str(result.weights))
    if result.stopped:
        if result.is_main:
            console.message(f"stopped after {result.num_steps} steps; the same command with --resume goes on")
        raise typer.Exit(1)


def _show(advance: console.Advance, record: dict[str, Any]) -> None:
    step = record["step"]
    if record["event"] == "step":
        found = "  ".join(f"{name} {record[name]:.3f}" for name in ("loss", "iou") if name in record)
        speed = f"size {record['size']}  {record['step_seconds']:.2f} s a step"
        advance(step, round(step / record["progress"]))
        console.message(f"{record['progress']:6.1%}  step {step}  {found}  {speed}")
    elif record["event"] == "validation":
        console.message(f"step {step}  J&F {100 * record['score']:.1f}")
    elif record["event"] == "problem":
        console.warning(f"skipped, {record['message']}")
    elif record["event"] == "end":
        if record["problems"]:
            console.warning(f"{record['problems']} file(s) could not be used; log.jsonl names them")
        if not record["new_steps"]:
            console.message(f"nothing was left to do: this run ended after {step} steps")
