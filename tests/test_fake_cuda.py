"""What meets the device stays on it: what runs on CUDA runs on a CUDA device that is not there, and seldom waits."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from fake_cuda import CUDA, Watch, fake_cuda
from training_data import make_davis, make_stills

from mgseg.data.scene import Scene, render
from mgseg.distributed import Processes
from mgseg.model.confidence import FEATURES, ConfidenceModel
from mgseg.model.fast.prepare import prepare_for_inference
from mgseg.model.network import MotionGuidedSTM
from mgseg.network import Network
from mgseg.segment.segmenter import Segmenter, SegmenterOptions
from mgseg.training.batches import Drawing, plan_step, steps_of
from mgseg.training.build import TrainOptions, build_sources
from mgseg.training.objective import VideoPass, clip_outcome
from mgseg.training.stages import configure
from mgseg.training.updater import Updater

SIZE = (72, 100)  # no multiples of 16
FRAME = np.zeros((*SIZE, 3), np.uint8)
MASK = np.zeros(SIZE, np.uint8)
MASK[10:30], MASK[30:40, :50], MASK[50:60] = 1, 2, 7
ZEROS, ONES = dict.fromkeys(FEATURES, 0.0), dict.fromkeys(FEATURES, 1.0)
MakeSegmenter = Callable[..., Segmenter]


@pytest.fixture
def prepared(tiny_model: MotionGuidedSTM) -> MotionGuidedSTM:
    """The model as it is before it goes to the device."""
    return prepare_for_inference(deepcopy(tiny_model))


@pytest.fixture
def watch(prepared: MotionGuidedSTM, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    with fake_cuda(monkeypatch) as found:
        yield found


@pytest.fixture
def make_segmenter(prepared: MotionGuidedSTM, watch: Watch) -> MakeSegmenter:
    def make(precision: str = "auto", **options: int) -> Segmenter:
        return Segmenter(Network.from_model(prepared.to(CUDA), precision), SegmenterOptions(**options))

    return make


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "options",
    [{}, {"size": 48}, {"flip": True}, {"objects_at_once": 2}, {"scales": (1, 1.25), "reference_weight": 3}],
    ids=str,
)
def test_a_frame_waits_for_the_device_once(
    options: dict[str, int], precision: str, make_segmenter: MakeSegmenter, watch: Watch
) -> None:
    segmenter = make_segmenter(precision, **options)
    segmenter.start(FRAME, MASK)
    for _ in range(7):  # past the first frame that memory drops
        watch.reset()
        segmenter.step(FRAME)
        assert (watch.fetched, watch.sent, watch.asked) == ([SIZE], [FRAME.shape], 0)


def test_autocast_computes_in_half_precision_there(make_segmenter: MakeSegmenter, watch: Watch) -> None:
    segmenter = make_segmenter()
    assert segmenter.network.precision == "float16"
    segmenter.start(FRAME, MASK)
    segmenter.step(FRAME)
    segmenter.step(FRAME)
    keys, values = segmenter._objects[0].banks[0].read_views()
    assert {keys.dtype, values.dtype} == {torch.float16}


def test_corrections_new_objects_and_removed_ones_wait_no_more_than_once_a_frame(
    make_segmenter: MakeSegmenter, watch: Watch
) -> None:
    segmenter = make_segmenter()
    segmenter.start(FRAME, MASK)
    later = MASK.copy()
    later[60:] = 9
    for zero_is_background in (False, True):
        watch.reset()
        segmenter.step(FRAME, later, zero_is_background=zero_is_background)
        assert (watch.fetched, watch.sent, watch.asked) == ([SIZE], [FRAME.shape, SIZE], 0)
    segmenter.remove([2])
    watch.reset()
    segmenter.step(FRAME)
    assert (watch.fetched, watch.asked) == ([SIZE], 0)
    assert segmenter.object_ids == (1, 7, 9)


def test_a_frame_whose_mask_is_known_waits_no_more_than_once(make_segmenter: MakeSegmenter, watch: Watch) -> None:
    segmenter = make_segmenter()
    segmenter.start(FRAME, MASK)
    for _ in range(7):
        watch.reset()
        segmenter.recall(FRAME, MASK)
        assert len(watch.fetched) <= 1
        assert (watch.sent, watch.asked) == ([FRAME.shape, SIZE], 0)
    assert segmenter.step(FRAME).shape == SIZE


def test_probabilities_are_fetched_at_the_clip_s_size(make_segmenter: MakeSegmenter, watch: Watch) -> None:
    segmenter = make_segmenter(size=48)
    segmenter.start(FRAME, MASK)
    watch.reset()
    assert segmenter.probabilities.shape == (4, *SIZE)
    assert (watch.fetched, watch.asked) == ([(4, *SIZE)], 0)


def test_confidence_comes_with_the_mask(prepared: MotionGuidedSTM, watch: Watch) -> None:
    model = ConfidenceModel(ZEROS, ONES, ONES, bias=0.5, empty=0.25, fitted_on="made up")
    segmenter = Segmenter(Network.from_model(prepared.to(CUDA)), confidence=model)
    segmenter.start(FRAME, MASK)
    for _ in range(7):
        watch.reset()
        segmenter.step(FRAME)
        assert set(segmenter.confidence or {}) == {1, 2, 7}
        assert (watch.fetched, watch.asked) == ([SIZE], 0)


@pytest.fixture
def drawn(tmp_path: Path) -> list[Scene]:
    """Clips of stills and videos, with pasted objects and every effect, drawn but not rendered."""
    stills, davis = make_stills(tmp_path / "squares"), make_davis(tmp_path / "davis")
    config = configure("static", "fast", {"batch_size": "6", "size": "64", "clip_share": "0.5"})
    options = TrainOptions(out=tmp_path / "run", stills=(stills,), clips=(f"davis16={davis}",), device="cpu")
    one = Processes(0, 1, torch.device("cpu"))
    sources = build_sources(config, options, one)
    drawing = Drawing(sources.stills, sources.clips, 0, one, render=False)
    (step,) = steps_of(drawing, [plan_step(config, 0, 0, 0.5)], 0)
    assert isinstance(step.clips, list)
    return step.clips


def test_clips_are_rendered_on_the_device_without_waiting_for_it(drawn: list[Scene], watch: Watch) -> None:
    batch = render(drawn, CUDA)
    assert {batch.images.device.type, batch.masks.device.type} == {"cuda"}
    assert (watch.fetched, watch.asked) == ([], 0)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_training_step_asks_the_device_for_its_norm_alone(
    precision: Literal["float32", "float16", "bfloat16"], drawn: list[Scene], tiny_model: MotionGuidedSTM, watch: Watch
) -> None:
    config = configure("static", "fast", {"size": "64"})
    updater = Updater(deepcopy(tiny_model).to(CUDA).train(), config, Processes(0, 1, CUDA), precision)
    for step in range(2):
        batch = render(drawn, CUDA)
        watch.reset()
        with updater.autocast():
            outcome = clip_outcome(updater.model, batch, keep=0.25, jaccard=0.5)
        assert outcome.loss.requires_grad
        assert (watch.fetched, watch.asked) == ([], 0)
        for parameter in updater.model.parameters():  # as backward() would, which needs a driver
            parameter.grad = torch.zeros_like(parameter)
        updater.update(step, 0.5)
        assert (watch.fetched, watch.asked) == ([], 1)
    assert outcome.prediction.device.type == "cuda"


def test_a_video_is_trained_on_without_waiting_for_the_device(tiny_model: MotionGuidedSTM, watch: Watch) -> None:
    video = VideoPass(deepcopy(tiny_model).to(CUDA).train(), FRAME, MASK, CUDA, keep=0.25, jaccard=0.5)
    for _ in range(3):
        outcome = video.step(FRAME, MASK)
        assert outcome.loss.requires_grad
    assert (watch.fetched, watch.asked) == ([], 0)
