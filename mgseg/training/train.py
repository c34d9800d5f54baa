"""`train_stage`: the training loop, with log, validation and checkpoints. It can be resumed at every step."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch

from mgseg.device import denormals_as_zero
from mgseg.distributed import Processes, join
from mgseg.errors import MgsegError, OutputError
from mgseg.model.network import PRESETS
from mgseg.segment.segmenter import SegmenterOptions
from mgseg.training.batches import Drawing, StepPlan, plan_step
from mgseg.training.build import Sources, TrainOptions, build_sources, count_workers
from mgseg.training.checkpoint import checkpoint_path, drop_old, find_checkpoint, load_checkpoint
from mgseg.training.log import Record, RunLog
from mgseg.training.pictures import Picture, draw_curve, draw_predictions
from mgseg.training.schedule import Clock
from mgseg.training.signals import stop_signals
from mgseg.training.stages import StageConfig
from mgseg.training.start import Start, build_model, choose_start, rebuild_model
from mgseg.training.updater import Updater
from mgseg.training.validation import validate
from mgseg.training.work import ClipWork, VideoWork
from mgseg.weights import TRAINING, save_weights

Notify = Callable[[Record], None]


@dataclass(frozen=True)
class TrainResult:
    """Result of a run.

    Attributes:
        weights: for `segment --weights`; of a run that was stopped, the checkpoint.
        num_steps: done over all parts of the run.
        stopped: a signal ended it before its schedule did.
        score: best J&F of the validations, None without one.
        is_main: this is the process that speaks for all.
    """

    weights: Path
    num_steps: int
    stopped: bool
    score: float | None
    is_main: bool = True


def train_stage(config: StageConfig, options: TrainOptions, notify: Notify = lambda record: None) -> TrainResult:
    """Train one stage; under torchrun every process calls this.

    Writes into `options.out`: log.jsonl, checkpoint-*.pth, best.pth and weights.pth (both for
    `segment --weights`), curve.png, predictions-*.png.

    Args:
        config: the stage.
        options: data, model, device, output.
        notify: called with each log record, on the first process only.

    Raises:
        MgsegError: the data, the weights to start from, the folder or the device cannot be used.
    """
    with join(options.device) as processes, stop_signals() as stopped, denormals_as_zero():
        torch.backends.cudnn.benchmark = True  # crops have few sizes
        return _Run(config, options, processes, notify).train(stopped)


class _Run:
    """The state of one run on this process."""

    def __init__(self, config: StageConfig, options: TrainOptions, processes: Processes, notify: Notify) -> None:
        self.config, self.options, self.processes = config, options, processes
        self._notify = notify if processes.is_main else lambda record: None
        _check(config, options, processes)
        sources = build_sources(config, options, processes)
        found = find_checkpoint(options.out) if options.resume else None
        state: dict[str, Any] = {}
        if found:
            checkpoint = load_checkpoint(found)
            state = checkpoint[TRAINING]
            _check_same_stage(found, state["stage"]["stage"], config.stage)
            start = Start(str(found), f"resumed from {found}")
            model = rebuild_model(found, checkpoint["config"], options, processes.device)
        else:
            start = choose_start(config.stage, options)
            model = build_model(start, options, processes.device)
        if model.motion_prior is not None:
            model.motion_prior.jitter = config.prior_jitter
        self.updater = Updater(model, config, processes, options.precision)
        if found:
            self.updater.load(state["updater"], checkpoint["state_dict"])
        self.step: int = state.get("step", 0)
        self._first_step = self.step
        self._diverged = False  # the newest loss is no finite number
        self._updates: int = state.get("updates", self.step)  # steps that changed the weights
        self.clock = Clock(config.num_steps, options.minutes, state.get("seconds", 0.0))
        self.held_out = sources.held_out
        self._last_save = time.monotonic()
        self._picture: Picture | None = None  # of the newest step
        self._plan: StepPlan | None = None  # likewise
        self.work = self._work(sources)
        options.out.mkdir(parents=True, exist_ok=True)
        self.log = RunLog()
        if processes.is_main:
            self.log.open(options.out, self.step, options.tensorboard)
            self._write("start", **self._description(sources, start))

    def train(self, stopped: threading.Event) -> TrainResult:
        """Run to the end of the schedule or to a signal."""
        with closing(self.work):  # ends the workers
            while True:
                progress, stop = self.processes.furthest(self.clock.progress(self.step), stopped.is_set())
                if stop or progress >= 1:
                    return self._end(bool(stop))
                self._one_step()
                validate_now = self.step % self.options.validate_every == 0
                waited = time.monotonic() - self._last_save
                if self.processes.is_main and (validate_now or waited > 60 * self.options.checkpoint_minutes):
                    self._save()
                if validate_now:
                    self._validate()

    def _one_step(self) -> None:
        # The jitter of the motion prior draws from torch's generator: a seed a step, so no state need be saved.
        torch.manual_seed((self.options.seed << 32) + (self.step << 8) + self.processes.rank)
        self._picture = None  # its tensors go before the next ones come
        result = self.work.step()
        self.step += 1
        if "loss" in result.values:
            self._updates += math.isfinite(result.values["norm"])
            self._diverged = not math.isfinite(result.values["loss"])
        if not self.processes.is_main:
            return
        self._picture, self._plan = result.picture, result.plan
        for problem in result.problems:  # each process that draws finds it for itself
            if not any(record.get("message") == problem for record in self.log.records):
                self._write("problem", message=problem)
        self.log.add(result.values)
        if self.step % self.options.log_every == 0:
            self._write_means()

    def _work(self, sources: Sources) -> ClipWork | VideoWork:
        if self.config.stage == "sequence":
            return VideoWork(self.updater, sources.videos, self._plans(), self.options.seed)
        on_cpu = self.processes.device.type == "cpu"
        drawing = Drawing(sources.stills, sources.clips, self.options.seed, self.processes, render=on_cpu)
        return ClipWork(self.updater, drawing, self._plans(), count_workers(self.options, self.processes))

    def _plans(self) -> Iterator[StepPlan]:
        for step in count(self.step):
            progress = self.clock.progress(step)
            if self.options.minutes:
                (progress,) = self.processes.furthest(progress)
            yield plan_step(self.config, self.options.seed, step, min(progress, 1.0))

    def _validate(self) -> None:
        began = time.monotonic()
        scores = None
        if self.held_out:
            options, masks = SegmenterOptions(size=self.options.validate_size), self.options.out / "validation"
            model, precision = self.updater.average, self.options.precision
            scores = validate(model, precision, self.held_out, options, masks, self.processes)
        if scores:
            self._write("validation", score=scores.mean, sequences=scores.sequences)
            if scores.mean == max(self._scores()):
                self._save_weights(self.options.out / "best.pth")
        if self.processes.is_main:
            draw_curve(self.log.records, self.options.out / "curve.png")
            if self._picture:
                draw_predictions(self._picture, self.options.out / f"predictions-{self.step:08d}.png")
        self.clock.reserve = time.monotonic() - began  # for the one at the end

    def _save(self) -> Path:
        path = checkpoint_path(self.options.out, self.step)
        state = {
            "step": self.step,
            "seconds": self.clock.seconds,
            "updates": self._updates,
            "stage": _as_json(asdict(self.config)),
            "updater": self.updater.state(),
        }
        self._save_weights(path, {TRAINING: state})
        drop_old(self.options.out, self.options.keep_checkpoints)
        self._last_save = time.monotonic()
        return path

    def _save_weights(self, path: Path, extra: dict[str, Any] | None = None) -> None:
        model = self.updater.average
        save_weights(path, model.config, model.state_dict(), extra=extra)

    def _end(self, stopped: bool) -> TrainResult:
        weights = self.options.out / "weights.pth"
        if not stopped:
            self._check_trained()
        if self.processes.is_main:
            self._write_means()
            checkpoint = self._save()
            if stopped:
                weights = checkpoint
            else:
                self._save_weights(weights)
        if not stopped and self.step % self.options.validate_every:
            self._validate()
        if self.processes.is_main:
            draw_curve(self.log.records, self.options.out / "curve.png")
            problems = sum(record["event"] == "problem" for record in self.log.records)
            new_steps, seconds = self.step - self._first_step, round(self.clock.seconds, 1)
            self._write("end", stopped=stopped, new_steps=new_steps, seconds=seconds, problems=problems)
        score = max(self._scores(), default=None)
        return TrainResult(weights, self.step, stopped, score, self.processes.is_main)

    def _check_trained(self) -> None:
        """Raise an error if the run has no trained weights."""
        updates, diverged = self.processes.furthest(self._updates, self._diverged)
        if not self.step:
            raise MgsegError("no step was trained: the time was over before the first one", "give more --minutes")
        weights = self.updater.average.state_dict().values()
        if not updates or diverged or not all(bool(tensor.isfinite().all()) for tensor in weights):
            what = "no step changed the weights: no gradient was finite" if not updates else "training diverged"
            raise MgsegError(f"{what}; there are no weights to keep", "use a lower --rate, or --precision float32")

    def _write_means(self) -> None:
        """Write the means of the steps since the last time, if there were any."""
        means, plan = self.log.means(), self._plan
        if not means or not plan:
            return
        self._write(
            "step",
            **means,
            progress=round(min(self.clock.progress(self.step), 1.0), 6),
            rate=self.updater.optimizer.param_groups[-1]["lr"],
            size=plan.request.size,
            batch_size=plan.batch_size,
            seconds=round(self.clock.seconds, 1),
        )

    def _scores(self) -> list[float]:
        """Of all validations, those before an interruption included; on the first process."""
        return [record["score"] for record in self.log.records if record["event"] == "validation"]

    def _write(self, event: str, **values: Any) -> None:
        self._notify(self.log.write(event, self.step, **values))

    def _description(self, sources: Sources, start: Start) -> dict[str, Any]:
        return {
            "data": sources.text,
            "weights": start.text,
            "stage": _as_json(asdict(self.config)),
            "options": _as_json(asdict(self.options)),
            "model": asdict(self.updater.model.config),
            "sources": sources.sizes,
            "device": str(self.processes.device),
            "processes": self.processes.world_size,
            "torch": torch.__version__,
        }


def _check(config: StageConfig, options: TrainOptions, processes: Processes) -> None:
    """Check the options before anything is loaded."""
    if options.model and options.model not in PRESETS:
        raise MgsegError(f"there is no network {options.model!r}", f"choose --model from {', '.join(PRESETS)}")
    if any(batch % processes.world_size for batch in config.batch_size.values):
        batches = ", ".join(f"{batch:g}" for batch in config.batch_size.values)
        problem = f"a batch of {batches} cannot be shared out evenly over {processes.world_size} processes"
        raise MgsegError(problem, "change --batch, or use a number of processes that divides it")
    if not config.num_steps and not options.minutes:
        raise MgsegError("the run has no end", "give --steps or --minutes")
    if not options.resume and (find_checkpoint(options.out) or (options.out / "weights.pth").exists()):
        raise OutputError(
            f"{options.out} already contains a run", "continue it with --resume, or choose another folder with --out"
        )


def _check_same_stage(checkpoint: Path, before: str, now: str) -> None:
    if before != now:
        hint = f"continue it with --stage {before}, or begin in another folder with --out and --init {checkpoint}"
        raise MgsegError(f"{checkpoint} cannot be resumed: its stage was {before}, now {now}", hint)


def _as_json(value: Any) -> Any:
    """Paths as text, tuples as lists: what both JSON and a weights-only checkpoint can hold."""
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value
