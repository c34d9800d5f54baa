"""The engine: stages lower the loss, a resumed run is the same run, files and errors are as promised."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training_data import make_davis, make_stills

from mgseg.distributed import Processes
from mgseg.errors import DatasetError, MgsegError, OutputError, WeightsError
from mgseg.model.network import MotionGuidedSTM
from mgseg.training.batches import Drawing, StepPlan, plan_step, steps_of
from mgseg.training.build import TrainOptions, build_sources
from mgseg.training.pictures import draw_curve
from mgseg.training.stages import StageConfig, configure
from mgseg.training.start import build_model, choose_start
from mgseg.training.train import TrainResult, train_stage
from mgseg.training.updater import Updater
from mgseg.training.validation import Scores
from mgseg.training.work import ClipWork, VideoWork
from mgseg.weights import load_network, save_weights

pytestmark = pytest.mark.numeric

ONE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_davis(tmp_path_factory.mktemp("davis"))


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stills(tmp_path_factory.mktemp("stills") / "squares")


@pytest.fixture
def options(tmp_path: Path, davis: Path, stills: Path, tiny_weights: Path) -> TrainOptions:
    return TrainOptions(
        out=tmp_path / "run",
        stills=(stills,),
        clips=(f"davis16={davis}",),
        init=str(tiny_weights),
        device="cpu",
        num_workers=0,
        log_every=1,
    )


def small(stage: str = "static", **changes: Any) -> StageConfig:
    """A stage of the fast preset at a size for tests."""
    sizes = {"num_steps": 3, "batch_size": 2, "size": "48" if stage == "sequence" else "32", "clip_share": "0.5"}
    return configure(stage, "fast", {**sizes, "num_frames": "2", "warmup_steps": 0, "rate": 1e-3, **changes})


def first_model(options: TrainOptions) -> MotionGuidedSTM:
    return build_model(choose_start("static", options), options, ONE.device)


def records(folder: Path, event: str | None = None) -> list[dict[str, Any]]:
    """The log's records of one event, or all."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if event in (None, record["event"])]


@pytest.mark.parametrize("stage", ["static", "clips", "sequence"])
def test_two_steps_on_the_same_data_lower_the_loss(stage: str, options: TrainOptions, davis: Path) -> None:
    config = small(stage, batch_size="1", max_frames=3, step_every=0)
    config = replace(config, object_weights=((1, 1.0),), prior_jitter=False)
    updater = Updater(first_model(options), config, ONE)
    sources = build_sources(config, options, ONE)
    plans = repeat(plan_step(config, 0, 0, 0.0))  # the same step again and again
    work: ClipWork | VideoWork
    if stage == "sequence":
        work = VideoWork(updater, sources.videos, plans, 0)
    else:
        drawing = Drawing(sources.stills, sources.clips, 0, ONE, render=True)
        work = ClipWork(updater, drawing, plans, 0)
    losses = [work.step().values["loss"] for _ in range(3)]
    work.close()
    assert losses[2] < losses[1] < losses[0]


def stop_at(step: int) -> Callable[[dict[str, Any]], None]:
    def notify(record: dict[str, Any]) -> None:
        if record["event"] == "step" and record["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return notify


@pytest.mark.parametrize("stage", ["static", "sequence"])
def test_a_run_stopped_by_a_signal_and_resumed_is_the_run_without_a_stop(stage: str, options: TrainOptions) -> None:
    config = small(stage, num_steps=4, batch_size="1", max_frames=3)
    whole = train_stage(config, replace(options, out=options.out / "whole"))
    first = train_stage(config, options, stop_at(2))
    assert (first.stopped, first.num_steps, whole.stopped, whole.num_steps) == (True, 2, False, 4)
    # The second part draws in a worker process, the first did not: clips must not depend on that.
    again = replace(options, resume=True, num_workers=1 if stage == "static" else 0)
    second = train_stage(config, again)
    expected, found = (load_network(run.weights).state_dict() for run in (whole, second))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert [record["step"] for record in records(options.out, "step")] == [1, 2, 3, 4]
    losses = [[r["loss"] for r in records(out, "step")] for out in (options.out, options.out / "whole")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("stage", "change", "says"),
    [
        ("clips", {}, "stage was static, now clips"),
        ("static", {"motion_prior": False}, "it was trained with"),
        ("static", {"model": "resnet50"}, "asks for resnet50"),
    ],
)
def test_a_run_goes_on_as_the_run_that_it_was(
    stage: str, change: dict[str, Any], says: str, options: TrainOptions
) -> None:
    train_stage(small(num_steps=1), options)
    before = (options.out / "weights.pth").read_bytes()
    with pytest.raises(MgsegError, match=says):
        train_stage(small(stage, num_steps=2), replace(options, resume=True, **change))
    assert (options.out / "weights.pth").read_bytes() == before


def test_a_run_goes_on_in_another_precision(options: TrainOptions) -> None:
    train_stage(small(num_steps=1), options)
    result = train_stage(small(num_steps=2), replace(options, resume=True, precision="float16"))
    assert (result.num_steps, result.stopped) == (2, False)


def test_in_float16_an_update_may_come_before_any_loss(tiny_weights: Path) -> None:
    updater = Updater(load_network(tiny_weights), small(), ONE, "float16")
    for parameter in updater.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    assert updater.update(0, 0.0) == 0


def test_an_unusable_picture_that_several_processes_find_is_told_once(
    options: TrainOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mgseg.training.batches.new_problems", lambda *_: ["squares/x: unreadable"])
    train_stage(small(), options)
    assert [record["message"] for record in records(options.out, "problem")] == ["squares/x: unreadable"]
    assert records(options.out, "end")[0]["problems"] == 1


def test_a_run_leaves_what_it_promises(options: TrainOptions) -> None:
    done = replace(
        options, hold_out=("goat",), validate_every=2, validate_size=32, checkpoint_minutes=0, keep_checkpoints=2
    )
    seen: list[dict[str, Any]] = []
    result = train_stage(small(), done, seen.append)
    names = {path.name for path in options.out.iterdir()}
    assert names == {
        "log.jsonl",
        "curve.png",
        "predictions-00000002.png",
        "predictions-00000003.png",
        "checkpoint-00000002.pth",
        "checkpoint-00000003.pth",
        "best.pth",
        "weights.pth",
        "validation",
    }
    assert len(list((options.out / "validation" / "davis16" / "goat").iterdir())) == 8
    scores = records(options.out, "validation")
    assert [record["step"] for record in scores] == [2, 3]
    assert result.score == max(record["score"] for record in scores)
    assert scores[0]["sequences"].keys() == {"goat"}
    assert seen == records(options.out)
    assert seen[0]["event"] == "start"
    assert seen[0]["sources"] == {"squares": 3, "davis16": 1}
    for picture in ("curve.png", "predictions-00000002.png", "predictions-00000003.png"):
        with Image.open(options.out / picture) as image:
            assert image.getextrema() != ((0, 0),) * 3
    assert load_network(options.out / "best.pth").config == load_network(result.weights).config


def test_time_ends_a_run_that_has_no_number_of_steps(options: TrainOptions) -> None:
    result = train_stage(small(num_steps=0), replace(options, minutes=0.02))
    (end,) = records(options.out, "end")
    assert result.num_steps >= 1
    assert end["seconds"] >= 1.2
    progress = [record["progress"] for record in records(options.out, "step")]
    assert 0 < progress[0] <= progress[-1] == 1


def test_the_saved_weights_are_the_moving_average(options: TrainOptions) -> None:
    result = train_stage(small(num_steps=2, ema=0.5), options)
    checkpoint = torch.load(options.out / "checkpoint-00000002.pth", weights_only=True)
    saved = load_network(result.weights).state_dict()
    name = "decoder.predict.weight"
    assert torch.equal(saved[name], checkpoint["state_dict"][name])
    assert not torch.equal(saved[name], checkpoint["training"]["updater"]["model"][name])


def draw(config: StageConfig, options: TrainOptions, processes: Processes, plans: Iterator[StepPlan]) -> Any:
    sources = build_sources(config, options, ONE)
    drawing = Drawing(sources.stills, sources.clips, 5, processes, render=True)
    return next(steps_of(drawing, plans, 0))


def test_processes_share_the_batch_that_one_would_draw(options: TrainOptions) -> None:
    config = small(batch_size="4")
    plan = plan_step(config, 5, 17, 0.3)
    whole = draw(config, options, ONE, repeat(plan)).clips
    parts = [draw(config, options, Processes(rank, 2, ONE.device), repeat(plan)).clips for rank in (0, 1)]
    assert whole.names == parts[0].names + parts[1].names
    assert torch.equal(whole.images, torch.cat([part.images for part in parts]))


def test_clips_are_the_same_rendered_by_the_one_that_draws_or_the_one_that_trains(options: TrainOptions) -> None:
    config = small(batch_size="4")
    plan = plan_step(config, 5, 17, 0.3)
    rendered = draw(config, options, ONE, repeat(plan)).clips
    sources = build_sources(config, options, ONE)
    step = next(steps_of(Drawing(sources.stills, sources.clips, 5, ONE, render=False), repeat(plan), 0))
    assert torch.equal(step.render(ONE.device).images, rendered.images)


def test_held_out_sequences_are_not_trained_on(options: TrainOptions) -> None:
    config = small("clips", batch_size="12", clip_share="1")
    step = draw(config, replace(options, hold_out=("bear",)), ONE, repeat(plan_step(config, 0, 0, 0.0)))
    assert {name.split("/")[0] for name in step.clips.names} == {"goat"}


def test_an_unreadable_picture_is_named_and_the_run_goes_on(options: TrainOptions, tmp_path: Path) -> None:
    broken = make_stills(tmp_path / "broken", 2)
    (broken / "images" / "0.png").write_bytes(b"no picture")
    train_stage(small(clip_share="0", num_steps=2, batch_size="4"), replace(options, stills=(broken,), clips=()))
    (problem,) = records(options.out, "problem")
    assert records(options.out, "end")[0]["problems"] == 1
    assert "broken/0" in problem["message"]


REFUSALS = [
    ("static", {"stills": (), "clips": ()}, DatasetError, "--static"),
    ("clips", {"clips": ()}, DatasetError, "--clips"),
    ("clips", {"hold_out": ("zebra",)}, DatasetError, "zebra"),
    ("clips", {"clips": ("davis17=/nowhere",)}, DatasetError, "nowhere"),
    ("static", {"stills": (Path("/nowhere"),)}, DatasetError, "nowhere"),
    ("static", {"init": "/nowhere.pth"}, WeightsError, "nowhere"),
]


@pytest.mark.parametrize(("stage", "changes", "error", "word"), REFUSALS)
def test_what_cannot_work_is_refused_at_once(
    stage: str, changes: dict[str, Any], error: type[MgsegError], word: str, options: TrainOptions
) -> None:
    with pytest.raises(error) as caught:
        train_stage(small(stage), replace(options, **changes))
    assert word in f"{caught.value} {caught.value.hint}"
    assert not options.out.exists()


def test_a_folder_with_a_run_is_not_overwritten(options: TrainOptions, tiny_model: MotionGuidedSTM) -> None:
    save_weights(options.out / "weights.pth", tiny_model.config, tiny_model.state_dict())
    with pytest.raises(OutputError, match="already contains a run"):
        train_stage(small(), options)


def test_gradients_that_are_not_finite_change_nothing_and_end_a_run_in_the_long(tiny_weights: Path) -> None:
    model = load_network(tiny_weights).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    updater = Updater(model, small(), ONE)
    for step in range(20):
        updater.backward(model.decoder.predict.weight.sum() * float("nan"))
        if step < 19:
            updater.update(step, 0.0)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(MgsegError, match="finite"):
        updater.update(20, 0.0)


def test_the_trunks_learn_at_their_own_rate_and_only_kernels_decay(tiny_weights: Path) -> None:
    updater = Updater(load_network(tiny_weights), small(trunk_rate=0.25, weight_decay=0.1), ONE)
    groups = updater.optimizer.param_groups
    assert [group["multiple"] for group in groups] == [0.25, 0.25, 1, 1]
    assert [group["weight_decay"] for group in groups] == [0.1, 0, 0.1, 0]
    assert sum(len(group["params"]) for group in groups) == len(list(updater.model.parameters()))
    assert {p.ndim for group in groups[1::2] for p in group["params"]} == {1}


def test_long_gradients_are_clipped(tiny_weights: Path) -> None:
    model = load_network(tiny_weights)
    updater = Updater(model, replace(small(), optimizer="adam", clip_norm=1e-3), ONE)
    weight = model.decoder.predict.bias
    updater.backward(1000 * weight.sum())
    assert updater.update(0, 0.0) == pytest.approx(1000 * np.sqrt(weight.numel()), rel=1e-4)
    moment = updater.optimizer.state[weight]["exp_avg"]
    assert float(moment.norm()) == pytest.approx(1e-4, rel=1e-2)  # a tenth of the clipped gradient


def test_the_prior_can_be_taken_off_and_put_on_anew(options: TrainOptions, tmp_path: Path) -> None:
    plain = first_model(replace(options, motion_prior=False))
    guided = load_network(Path(str(options.init)))
    assert plain.motion_prior is None
    assert torch.equal(plain.decoder.predict.weight, guided.decoder.predict.weight)
    save_weights(tmp_path / "plain.pth", plain.config, plain.state_dict())
    again = first_model(replace(options, init=str(tmp_path / "plain.pth")))
    assert again.config == guided.config
    assert torch.equal(again.decoder.predict.weight, guided.decoder.predict.weight)


def test_the_best_weights_are_those_of_the_best_validation(
    options: TrainOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.2, 0.6, 0.4, 0.5])
    monkeypatch.setattr("mgseg.training.train.validate", lambda *args: Scores(next(scores), {}))
    watched = replace(options, hold_out=("goat",), validate_every=1, keep_checkpoints=9)
    config = small(num_steps=4)
    assert train_stage(config, watched, stop_at(3)).stopped
    result = train_stage(config, replace(watched, resume=True))
    assert result.score == 0.6
    best, second = (load_network(options.out / name) for name in ("best.pth", "checkpoint-00000002.pth"))
    assert torch.equal(best.decoder.predict.weight, second.decoder.predict.weight)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains(precision: Any, options: TrainOptions) -> None:
    train_stage(small(num_steps=2), replace(options, precision=precision))
    before, after = (load_network(Path(path)) for path in (str(options.init), options.out / "weights.pth"))
    change = (after.decoder.predict.weight - before.decoder.predict.weight).detach().abs().max()
    assert 0 < float(change) < 0.01
    assert all(np.isfinite(record["norm"]) for record in records(options.out, "step")[-1:])


@pytest.mark.gpu
def test_a_gpu_trains_on_clips_that_workers_draw(options: TrainOptions) -> None:
    on_gpu = replace(options, device="cuda", precision="bfloat16", num_workers=2, hold_out=("goat",))
    result = train_stage(small(num_steps=3), on_gpu)
    assert result.score is not None


def test_the_result_says_where_the_weights_are(options: TrainOptions) -> None:
    result = train_stage(small(num_steps=1), options)
    assert result == TrainResult(options.out / "weights.pth", 1, False, None)


def test_training_takes_denormal_numbers_for_zero_and_leaves_the_process_as_it_was(options: TrainOptions) -> None:
    def product() -> float:
        return float(torch.tensor(1e-30) * torch.tensor(1e-10))

    seen: list[float] = []
    train_stage(small(num_steps=1), options, lambda record: seen.append(product()))
    assert set(seen) == {0.0}
    assert product() > 0


def test_a_run_without_a_step_is_an_error_and_leaves_no_weights(options: TrainOptions) -> None:
    with pytest.raises(MgsegError, match="no step was trained") as caught:
        train_stage(small(num_steps=0), replace(options, minutes=1e-9), slow_start)
    assert "--minutes" in str(caught.value.hint)
    assert {path.name for path in options.out.iterdir()} == {"log.jsonl"}


def slow_start(record: dict[str, Any]) -> None:
    time.sleep(1.1)  # the clock takes less than a second for one


@pytest.mark.parametrize(("rate", "what"), [(1e30, "diverged"), (1e-3, "no step changed")])
def test_a_run_that_left_no_usable_weights_is_an_error(
    rate: float, what: str, options: TrainOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what != "diverged":
        monkeypatch.setattr("mgseg.training.objective.cross_entropy", lambda logits, *_: logits.sum((1, 2, 3)) * np.nan)
    with pytest.raises(MgsegError, match=what) as caught:
        train_stage(small(num_steps=3, rate=rate, ema=0), options)
    assert "--rate" in str(caught.value.hint)
    assert not (options.out / "weights.pth").exists()


def test_a_finished_run_that_is_resumed_says_that_nothing_was_left(options: TrainOptions) -> None:
    train_stage(small(num_steps=1), options)
    before = load_network(options.out / "weights.pth").state_dict()
    result = train_stage(small(num_steps=1), replace(options, resume=True))
    assert records(options.out, "end")[-1]["new_steps"] == 0
    after = load_network(result.weights).state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())


def test_a_run_shorter_than_a_line_of_its_log_still_has_a_curve(options: TrainOptions) -> None:
    train_stage(small(num_steps=2), replace(options, log_every=20))
    (record,) = records(options.out, "step")
    assert record["step"] == 2
    with Image.open(options.out / "curve.png") as image:
        colours = {colour for _, colour in image.getcolors(1 << 16) or ()}
    assert {(0xD6, 0x27, 0x28), (0x1F, 0x77, 0xB4)} <= colours  # loss and IoU, titles and points


def test_a_point_alone_is_drawn(tmp_path: Path) -> None:
    pixels = []
    for number in (0, 1):
        draw_curve([{"event": "step", "step": 5, "loss": 0.5}] * number, tmp_path / "curve.png")
        with Image.open(tmp_path / "curve.png") as image:
            area = np.asarray(image)[46:414, 46:854]
        pixels.append(int((area == (0xD6, 0x27, 0x28)).all(-1).sum()))
    assert pixels[0] == 0 < pixels[1]


def test_files_that_are_no_checkpoint_of_ours_do_not_stop_a_run_that_is_resumed(options: TrainOptions) -> None:
    train_stage(small(num_steps=1), options)
    for name in ("checkpoint-x.pth", "._checkpoint-00000009.pth", "checkpoint-best.pth"):
        (options.out / name).write_bytes(b"no checkpoint")
    with (options.out / "log.jsonl").open("ab") as file:
        file.write(b'\xff\xfe{}\n[]\n3\n{}\n{"event": "st')
    assert train_stage(small(num_steps=2), replace(options, resume=True)).num_steps == 2
    assert [record["step"] for record in records(options.out, "step")] == [1, 2]


def test_a_dataset_that_is_held_out_whole_leaves_nothing_to_train_on(options: TrainOptions) -> None:
    with pytest.raises(DatasetError, match="nothing is left to train on"):
        train_stage(small("clips"), replace(options, hold_out=("bear", "goat")))
