"""The sequence stage: the order and memory of the test, a graph that does not grow, what gets a gradient."""

from copy import deepcopy
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from training_data import make_davis

from mgseg.data.catalog import find_split
from mgseg.data.clips import Videos
from mgseg.distributed import Processes
from mgseg.errors import DatasetError
from mgseg.model.network import MotionGuidedSTM
from mgseg.network import Network
from mgseg.segment.segmenter import Segmenter, SegmenterOptions
from mgseg.training.batches import plan_step
from mgseg.training.objective import VideoFrame, VideoPass
from mgseg.training.stages import configure
from mgseg.training.updater import Updater
from mgseg.training.work import VideoWork

pytestmark = pytest.mark.numeric

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Videos:
    root = make_davis(tmp_path_factory.mktemp("davis"), ("bear", "goat"), length=9)
    return Videos(find_split("davis16", "train", root), shorter_side=48)


def all_of(videos: Videos, index: int) -> list[VideoFrame]:
    return list(videos.stretch(index, 0, videos.num_frames(index)))


@pytest.fixture
def model(tiny_model: MotionGuidedSTM) -> MotionGuidedSTM:
    return deepcopy(tiny_model).train()


@pytest.mark.parametrize("side", [48, 44])  # the latter is padded
def test_the_video_is_segmented_as_at_test_time(model: MotionGuidedSTM, videos: Videos, side: int) -> None:
    pairs = [
        (frame[:side, :-3], mask[:side, :-3]) if side == 44 else (frame, mask) for frame, mask in all_of(videos, 0)
    ]
    segmenter = Segmenter(Network.from_model(deepcopy(model)), SegmenterOptions(size=0))
    segmenter.start(*pairs[0])
    video_pass = VideoPass(model, *pairs[0], CPU, 1.0, 0.5)
    for frame, mask in pairs[1:]:
        outcome = video_pass.step(frame, mask)
        outcome.loss.backward()
        expected = segmenter.step(frame)
        assert np.mean(outcome.prediction[0].numpy() != expected) < 0.001  # ties fall as rounding has it


class Saved:
    """A tensor that the backward pass needs."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def test_a_hundred_frames_hold_one_frames_graph_and_a_memory_of_one_size(
    model: MotionGuidedSTM, videos: Videos
) -> None:
    alive: WeakSet[Saved] = WeakSet()

    def pack(tensor: Tensor) -> Saved:
        saved = Saved(tensor)
        alive.add(saved)
        return saved

    pairs = all_of(videos, 0)
    video_pass = VideoPass(model, *pairs[0], CPU, 1.0, 0.5)
    before, after, stored = [], [], []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
        for frame, mask in islice(cycle(pairs), 1, 100):
            outcome = video_pass.step(frame, mask)
            before.append(len(alive))
            outcome.loss.backward()
            after.append(len(alive))
            stored.append(video_pass._bank._values.untyped_storage().nbytes())
    assert before[0] > 100
    assert len(set(before[1:])) == 1
    assert max(after) == 0
    assert len(set(stored)) == 1


def test_every_part_of_the_network_learns_from_a_later_frame(model: MotionGuidedSTM, videos: Videos) -> None:
    pairs = all_of(videos, 0)
    video_pass = VideoPass(model, *pairs[0], CPU, 1.0, 0.5)
    for frame, mask in pairs[1:4]:
        model.zero_grad()
        video_pass.step(frame, mask).loss.backward()
    parts = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert parts == {name for name, _ in model.named_children()}


def test_objects_that_come_later_are_background_and_ids_keep_their_slots(model: MotionGuidedSTM) -> None:
    frame = np.zeros((32, 48, 3), np.uint8)
    first, later = np.zeros((2, 32, 48), np.uint8)
    first[:8], first[8:16], first[16:20] = 7, 3, 255
    later[:8], later[8:16], later[16:24] = 7, 9, 255
    video_pass = VideoPass(model, frame, first, CPU, 1.0, 0.0)
    assert video_pass.ids == [3, 7]
    slots = video_pass.to_slots(later)[0]
    assert [int(slots[y, 0]) for y in (0, 8, 16, 31)] == [2, 0, 255, 0]


def work(model: MotionGuidedSTM, videos: Videos, **changes: Any) -> VideoWork:
    config = configure("sequence", "fast", {"size": "48", "num_steps": 1, "rate": 1e-9, **changes})
    updater = Updater(model, replace(config, prior_jitter=False), Processes(0, 1, CPU))
    plans = (plan_step(config, 0, step, 0.0) for step in range(10))
    return VideoWork(updater, [videos], plans, 0)


@pytest.mark.parametrize(("step_every", "updates"), [(0, 1), (3, 3), (8, 1)])
def test_the_optimiser_steps_once_a_video_or_every_few_frames(
    step_every: int, updates: int, model: MotionGuidedSTM, videos: Videos, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = work(model, videos, step_every=step_every)
    calls: list[float] = []
    update = task.updater.update
    monkeypatch.setattr(task.updater, "update", lambda *args: calls.append(update(*args)) or calls[-1])
    task.step()
    assert len(calls) == updates


def test_each_video_comes_once_in_a_pass_and_a_stretch_is_as_long_as_asked(
    model: MotionGuidedSTM, videos: Videos
) -> None:
    task = work(model, videos, max_frames=4)
    _, chosen, stretches = zip(*(task.choose(position) for position in range(6)), strict=True)
    assert sorted(chosen[:2]) == sorted(chosen[2:4]) == sorted(chosen[4:]) == [0, 1]
    assert {len(frames) for frames in stretches} == {4}
    assert len({frames.start for frames in stretches}) > 1
    assert all(frames.start >= 0 and frames.stop <= 9 for frames in stretches)


def test_a_video_without_objects_is_passed_over(model: MotionGuidedSTM, tmp_path: Path) -> None:
    root = make_davis(tmp_path, ("empty", "goat"), length=3)
    for mask in (root / "Annotations/480p/empty").iterdir():
        Image.fromarray(np.zeros((96, 128), np.uint8)).save(mask)
    task = work(model, Videos(find_split("davis16", "train", root), shorter_side=48))
    results = [task.step() for _ in range(4)]  # each video twice
    assert ["loss" in result.values for result in results].count(True) == 2
    (problem,) = [problem for result in results for problem in result.problems]
    assert problem.startswith("davis16/empty: no mask shows an object")


@pytest.mark.parametrize("length", [1, 3])
def test_videos_of_which_none_can_be_used_end_the_run(length: int, model: MotionGuidedSTM, tmp_path: Path) -> None:
    root = make_davis(tmp_path, ("one", "two"), length=length)
    if length > 1:
        (root / "ImageSets" / "2016").rename(root / "ImageSets" / "2017")  # where 255, as all of the masks are, is void
    task = work(model, Videos(find_split("davis16" if length == 1 else "davis17", "train", root), shorter_side=48))
    task.step()
    with pytest.raises(DatasetError, match="255 is void" if length > 1 else "none has two frames"):
        task.step()
