"""Adaptation to the first mask: what it changes, and that it changes nothing else."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conftest import MadeClip, content, make_clip
from made_datasets import make_davis, shapes
from typer.testing import CliRunner

import mgseg.segment.adaptation
from mgseg.cli import app
from mgseg.data.catalog import find_split
from mgseg.errors import DeviceError, InputError, OutputError
from mgseg.evaluation.evaluate import evaluate_split
from mgseg.files.masks import read_index_map, write_mask
from mgseg.network import Network
from mgseg.outputs.table import Outputs
from mgseg.segment.adaptation import adapt
from mgseg.segment.clip import SegmentResult, Span
from mgseg.segment.segmenter import Segmenter, SegmenterOptions
from mgseg.weights import load_network

if TYPE_CHECKING:
    from mgseg.model.network import MotionGuidedSTM

ADAPTED = SegmenterOptions(adapt=3)
Run = Callable[..., SegmentResult]


def tensors(model: "MotionGuidedSTM") -> list[torch.Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


@pytest.fixture
def run(segment_shapes: Run) -> Run:
    return partial(segment_shapes, options=ADAPTED)


@pytest.mark.numeric
def test_the_network_learns_the_clips_first_mask(tiny_network: Network, clip: MadeClip) -> None:
    def error(model: "MotionGuidedSTM") -> float:
        segmenter, found = Segmenter(Network.from_model(model)), []
        segmenter.start(clip.frames[0], clip.masks[0])
        for frame, mask in zip(clip.frames[1:], clip.masks[1:], strict=True):
            segmenter.step(frame)
            found.append(np.abs(segmenter.probabilities - (mask == np.arange(3)[:, None, None])).mean())
        return float(np.mean(found))

    before = tensors(tiny_network.model)
    steps: list[tuple[int, int]] = []
    adapted = adapt(tiny_network, clip.frames[0], clip.masks[0], 40, lambda *done: steps.append(done))
    assert steps == [(step, 40) for step in range(1, 41)]
    assert error(adapted) < 0.99 * error(tiny_network.model)
    assert all(map(torch.equal, before, tensors(tiny_network.model))), "the network itself stays as it is"
    assert not adapted.training


@pytest.mark.weights
def test_shipped_weights_gain_by_it(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 12, (128, 192))

    def error(steps: int) -> float:
        segmenter = Segmenter(Network("lite"), SegmenterOptions(adapt=steps))
        segmenter.start(clip.frames[0], clip.masks[0])
        found = [segmenter.step(frame) for frame in clip.frames[1:]]
        return float(np.mean(np.stack(found) != clip.masks[1:]))

    assert error(10) < 0.8 * error(0)


@pytest.mark.numeric
def test_the_same_mask_gives_the_same_network_also_without_gradients_around(
    tiny_network: Network, clip: MadeClip
) -> None:
    one = adapt(tiny_network, clip.frames[0], clip.masks[0], 2)
    with torch.inference_mode():
        other = adapt(Network.from_model(tiny_network.model), clip.frames[0], clip.masks[0], 2)
    assert other is not one
    assert all(map(torch.equal, tensors(one), tensors(other)))
    third = adapt(tiny_network, clip.frames[1], clip.masks[1], 2)
    assert not all(map(torch.equal, tensors(one), tensors(third)))


def test_the_newest_result_is_kept_for_the_same_input_only(tiny_network: Network, clip: MadeClip) -> None:
    steps: list[int] = []

    def train(frame: int, mask: int, count: int) -> "MotionGuidedSTM":
        return adapt(tiny_network, clip.frames[frame], clip.masks[mask], count, lambda done, _: steps.append(done))

    first = train(0, 0, 1)
    assert train(0, 0, 1) is first
    assert steps == [1]
    for other in ((1, 0, 1), (0, 1, 1), (0, 0, 2)):
        assert train(*other) is not first
    assert len(steps) == 1 + 1 + 1 + 2


def test_a_network_from_a_file_is_adapted_as_it_was_trained(tiny_weights: Path, clip: MadeClip) -> None:
    network = Network(tiny_weights)
    plain = load_network(tiny_weights)
    assert all(map(torch.equal, tensors(network.copy()), tensors(plain)))
    adapted = adapt(network, clip.frames[0], clip.masks[0], 1)
    assert [t.shape for t in tensors(adapted)] == [t.shape for t in tensors(network.model)]


def test_each_clip_starts_from_the_network_itself(tiny_network: Network, clip: MadeClip) -> None:
    segmenter = Segmenter(tiny_network, ADAPTED)
    assert segmenter.model is tiny_network.model
    segmenter.start(clip.frames[0], clip.masks[0])
    first = tensors(segmenter.model)
    segmenter.start(clip.frames[3], clip.masks[3], adapt=False)
    assert all(map(torch.equal, first, tensors(segmenter.model)))
    segmenter.start(clip.frames[3], clip.masks[3])
    segmenter.start(clip.frames[0], clip.masks[0])
    assert all(map(torch.equal, first, tensors(segmenter.model)))


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (7, 40), (16, 16), (300, 17)],
    ids=str,
)
def test_frames_of_any_size_are_learned_from(tiny_network: Network, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    mask = np.zeros(shape, np.uint8)
    mask[: shape[0] // 2 + 1, : shape[1] // 2 + 1] = 7
    adapt(tiny_network, image, mask, 2)


@pytest.mark.parametrize("kind", ["one pixel", "whole frame", "void", "many"])
def test_masks_of_any_kind_are_learned_from(tiny_network: Network, clip: MadeClip, kind: str) -> None:
    mask = np.zeros((64, 96), np.uint8)
    if kind == "one pixel":
        mask[5, 7] = 3
    if kind == "whole frame":
        mask[:] = 254
    if kind == "void":
        mask[:] = 255
        mask[20:40, 20:40] = 1
    if kind == "many":
        mask[::8, ::8] = np.arange(1, 97).reshape(8, 12)
    model = adapt(tiny_network, clip.frames[0], mask, 2)
    assert all(tensor.isfinite().all() for tensor in tensors(model))


def test_an_object_that_vanishes_at_the_networks_size_is_no_error(tiny_network: Network, clip: MadeClip) -> None:
    mask = np.zeros((64, 96), np.uint8)
    mask[1, 1] = 1
    segmenter = Segmenter(tiny_network, SegmenterOptions(size=16, adapt=2))
    segmenter.start(clip.frames[0], mask)
    assert segmenter.step(clip.frames[1]).shape == (64, 96)


def test_what_is_given_is_checked_before_it_is_learned_from(tiny_network: Network, clip: MadeClip) -> None:
    segmenter = Segmenter(tiny_network, ADAPTED)
    with pytest.raises(InputError, match="the first mask has no object"):
        segmenter.start(clip.frames[0], np.zeros((64, 96), np.uint8))
    with pytest.raises(ValueError, match="adapt must be 0 or more"):
        SegmenterOptions(adapt=-1)


def test_a_device_without_enough_memory_is_told_of(
    tiny_network: Network, clip: MadeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(mgseg.segment.adaptation, "clip_outcome", fail)
    with pytest.raises(DeviceError, match="out of memory on cpu while adapting") as caught:
        Segmenter(tiny_network, ADAPTED).start(clip.frames[0], clip.masks[0])
    assert caught.value.hint == "leave out --adapt"


def test_a_clip_is_adapted_to_once_by_its_first_mask(
    run: Run, clip: MadeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[int] = []

    def spy(network: Network, image: Any, mask: Any, *more: Any) -> Any:
        learned.append(int((mask != clip.masks[2]).sum()))
        return adapt(network, image, mask, *more)

    monkeypatch.setattr("mgseg.segment.segmenter.adapt", spy)
    masks = {2: clip.masks[2], 5: clip.masks[5]}
    steps: list[tuple[int, int]] = []
    run(Outputs(tmp_path / "m"), masks, span=Span(both_ways=True), on_adapt=lambda *done: steps.append(done))
    assert learned == [0]
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_an_interrupted_run_is_resumed_as_if_it_had_not_been(run: Run, tmp_path: Path) -> None:
    run(Outputs(tmp_path / "whole"))
    run(Outputs(tmp_path / "m"), span=Span(end=4))
    result = run(Outputs(tmp_path / "m", resume=True))
    assert result.num_found == 4
    assert content(tmp_path / "m") == content(tmp_path / "whole")
    with pytest.raises(OutputError, match="adapt was 3, now not set"):
        run(Outputs(tmp_path / "m", resume=True), options=SegmenterOptions())


def test_the_commands_take_it(clip: MadeClip, tiny_weights: Path, tmp_path: Path) -> None:
    given, plain, adapted = (tmp_path / name for name in ("first.png", "plain", "adapted"))
    write_mask(given, clip.masks[0])
    for folder, more in ((plain, []), (adapted, ["--adapt", "4"])):
        command = ["segment", str(clip.path), "--mask", str(given), "--weights", str(tiny_weights), "-o", str(folder)]
        assert CliRunner().invoke(app, [*command, *more]).exit_code == 0
    masks = [np.stack([read_index_map(path) for path in sorted(folder.iterdir())]) for folder in (plain, adapted)]
    differs = (masks[0] != masks[1]).any((1, 2))
    assert not differs[0]
    assert differs[1:].any()


def test_a_score_records_it_and_each_sequence_is_adapted_to(tiny_weights: Path, tmp_path: Path) -> None:
    root = make_davis(tmp_path / "data", {"bear": shapes(4), "cow": shapes(4)}, year="2016")
    split, options = find_split("davis16", "val", root), SegmenterOptions(adapt=2)
    together = evaluate_split(split, Network(tiny_weights), options)
    alone = evaluate_split(split.only(["cow"]), Network(tiny_weights), options)
    assert together.settings["masks"]["adapt"] == 2
    assert together.sequences["cow"] == alone.sequences["cow"]
