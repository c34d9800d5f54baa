"""Want of memory, injected: one more try in smaller parts, then an error; a failed try leaves no trace."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mgseg.errors import DeviceError
from mgseg.files.video import read_frames
from mgseg.segment.segmenter import Segmenter, SegmenterOptions

OPTIONS = SegmenterOptions(memory_every=2, memory_size=1)


class Shortage:
    """Lets every call of a function through but some, counted from 0, which run out of memory."""

    def __init__(self, function: Callable[..., Any], calls: set[int], error: RuntimeError) -> None:
        self.function, self.calls, self.error, self.count = function, calls, error, -1

    def __call__(self, *args: Any, **more: Any) -> Any:
        self.count += 1
        if self.count in self.calls:
            raise self.error
        return self.function(*args, **more)


@pytest.fixture
def frames(clip: Any) -> list[Any]:
    return [frame.image for frame in read_frames(clip.path)]


def segment(segmenter: Segmenter, frames: list[Any], clip: Any) -> list[Any]:
    """The probabilities on each frame; of a random network they differ by little, so a mask would hang on rounding."""
    new = np.where(clip.masks[3] == 2, 9, 0).astype(np.uint8)  # an object that comes while memory is short
    segmenter.start(frames[0], clip.masks[0])
    return [
        segmenter.probabilities
        for number, frame in enumerate(frames[1:], 1)
        if segmenter.step(frame, new if number == 3 else None) is not None
    ]


@pytest.mark.parametrize("place", ["encode_memory", "encode_query", "read", "decode"])
@pytest.mark.parametrize("call", [0, 2, 4])
def test_a_try_that_ran_out_of_memory_is_repeated_in_smaller_parts_from_the_same_state(
    tiny_network: Any, clip: Any, frames: list[Any], monkeypatch: pytest.MonkeyPatch, place: str, call: int
) -> None:
    plain = Segmenter(tiny_network, SegmenterOptions(memory_every=2, memory_size=1, objects_at_once=1))
    expected = segment(plain, frames, clip)
    segmenter = Segmenter(tiny_network, OPTIONS)
    shortage = Shortage(getattr(tiny_network.model, place), {call}, torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(tiny_network.model, place, shortage)
    found = segment(segmenter, frames, clip)
    assert shortage.count > call
    for ours, theirs in zip(found, expected, strict=True):  # the last ones with frames in memory from before and after
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-3)
    assert segmenter.object_ids == plain.object_ids


def test_after_a_shortage_the_objects_go_through_one_by_one(
    tiny_network: Any, clip: Any, frames: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[int] = []
    decode = Shortage(tiny_network.model.decode, {1}, torch.OutOfMemoryError("CUDA out of memory"))

    def watch(query: Any, readout: Any) -> Any:
        together.append(readout.shape[1])
        return decode(query, readout)

    monkeypatch.setattr(tiny_network.model, "decode", watch)
    segment(Segmenter(tiny_network, SegmenterOptions(objects_at_once=8)), frames, clip)
    assert together[:4] == [2, 2, 1, 1]  # the second frame fails and is tried again
    assert set(together[2:]) == {1}


@pytest.mark.parametrize("call", range(10))
def test_storage_that_fails_half_way_is_not_written_twice(
    tiny_network: Any, clip: Any, frames: list[Any], monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    expected = segment(Segmenter(tiny_network, OPTIONS), frames, clip)
    error = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    shortage = Shortage(torch.Tensor.new_empty, {call}, error)  # the memory's storage, and what reading it works in
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *args, **more: shortage(*args, **more))
    found = segment(Segmenter(tiny_network, OPTIONS), frames, clip)
    assert shortage.count > call
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-3)


def test_too_little_even_in_small_parts_is_an_error_with_settings_and_the_frame_can_be_tried_again(
    tiny_network: Any, clip: Any, frames: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = Segmenter(tiny_network, OPTIONS)
    segmenter.start(frames[0], clip.masks[0])
    before = segmenter.probabilities
    with monkeypatch.context() as patch:
        always = Shortage(tiny_network.model.decode, set(range(99)), torch.OutOfMemoryError("CUDA out of memory"))
        patch.setattr(tiny_network.model, "decode", always)
        with pytest.raises(DeviceError, match="out of memory on cpu with 2 object") as caught:
            segmenter.step(frames[1])
    assert always.count == 1
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("--size 32 ")  # of 64: 1 / sqrt(2), in steps of 16
    assert (segmenter.probabilities == before).all()
    expected = Segmenter(tiny_network, SegmenterOptions(memory_every=2, memory_size=1, objects_at_once=1))
    expected.start(frames[0], clip.masks[0])
    for frame in frames[1:]:
        assert (segmenter.step(frame) == expected.step(frame)).all()


def test_other_errors_of_torch_are_not_taken_for_want_of_memory(
    tiny_network: Any, clip: Any, frames: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        tiny_network.model, "decode", Shortage(tiny_network.model.decode, {0, 1}, RuntimeError("shapes differ"))
    )
    segmenter = Segmenter(tiny_network, OPTIONS)
    segmenter.start(frames[0], clip.masks[0])
    with pytest.raises(RuntimeError, match="shapes differ"):
        segmenter.step(frames[1])
