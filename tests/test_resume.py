"""--resume: what is there is taken up and nothing else, and the memory is what it would have been."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import content

import mgseg.segment.segmenter
from mgseg.errors import OutputError
from mgseg.files.masks import read_index_map, write_mask
from mgseg.files.pictures import read_note
from mgseg.files.video import read_frames
from mgseg.model.memory import MemoryBank
from mgseg.outputs.table import Outputs
from mgseg.segment.clip import SegmentResult, Span
from mgseg.segment.segmenter import Segmenter, SegmenterOptions

Made = Any
Run = Callable[..., SegmentResult]
EVERY_SECOND = SegmenterOptions(memory_every=2, memory_size=2)


@pytest.fixture
def run(segment_shapes: Run) -> Run:
    return partial(segment_shapes, options=EVERY_SECOND)


def test_masks_that_are_there_are_kept_and_the_rest_is_made(run: Run, tmp_path: Path) -> None:
    run(Outputs(tmp_path / "whole"))
    run(Outputs(tmp_path / "m"), span=Span(end=5))
    before = content(tmp_path / "m")
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "m").iterdir()}
    seen: list[int] = []
    outputs = Outputs(tmp_path / "m", overlay=tmp_path / "o.mp4", resume=True)
    result = run(outputs, on_mask=lambda number, _: seen.append(number))
    after = content(tmp_path / "m")
    assert list(after) == list(content(tmp_path / "whole"))
    assert before.items() <= after.items()
    assert all((tmp_path / "m" / name).stat().st_mtime_ns == stamp for name, stamp in stamps.items())
    assert seen == list(range(8))
    assert (result.num_frames, result.num_found) == (8, 5)
    assert len(list(read_frames(tmp_path / "o.mp4"))) == 8


def test_with_nothing_but_given_masks_done_the_result_is_that_of_an_unbroken_run(run: Run, tmp_path: Path) -> None:
    run(Outputs(tmp_path / "whole"))
    run(Outputs(tmp_path / "m"), span=Span(end=1))
    run(Outputs(tmp_path / "m", resume=True))
    assert content(tmp_path / "m") == content(tmp_path / "whole")
    run(Outputs(tmp_path / "new", resume=True))
    assert content(tmp_path / "new") == content(tmp_path / "whole")


@pytest.mark.parametrize("stop", range(1, 8))
def test_the_memory_holds_the_same_frames_as_in_an_unbroken_run(
    tiny_network: Any, clip: Made, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    made: list[MemoryBank] = []

    def make(*rule: int) -> MemoryBank:
        made.append(MemoryBank(*rule))
        return made[-1]

    monkeypatch.setattr(mgseg.segment.segmenter, "MemoryBank", make)
    frames = [frame.image for frame in read_frames(clip.path)]
    first = np.where(clip.masks[0] == 1, 1, 0).astype(np.uint8)
    later = {3: np.where(clip.masks[3] == 2, 2, 0).astype(np.uint8)}
    unbroken = Segmenter(tiny_network, EVERY_SECOND)
    masks = [unbroken.start(frames[0], first)]
    masks += [unbroken.step(frames[number], later.get(number)) for number in range(1, 8)]
    expected = list(made)
    made.clear()
    resumed = Segmenter(tiny_network, EVERY_SECOND)
    resumed.start(frames[0], first)
    for number in range(1, stop):
        assert (resumed.recall(frames[number], masks[number], later.get(number)) == masks[number]).all()
    for number in range(stop, 8):
        resumed.step(frames[number], later.get(number))
    assert resumed.object_ids == unbroken.object_ids == (1, 2)
    assert len(made) == len(expected) == 2
    for ours, theirs in zip(made, expected, strict=True):
        assert (ours.given, ours.kept) == (theirs.given, theirs.kept)
        assert [number in ours for number in range(9)] == [number in theirs for number in range(9)]
        assert len(ours) == len(theirs)


def test_a_torn_mask_is_made_again_and_parts_go(run: Run, tmp_path: Path) -> None:
    masks, cut_outs, scores = tmp_path / "m", tmp_path / "c", tmp_path / "s"
    run(Outputs(masks, cut_outs=cut_outs, scores=scores), span=Span(end=4))
    whole = content(masks)
    torn = masks / "00003.png"
    torn.write_bytes(torn.read_bytes()[:-30])
    for part in (masks / "00004.png.part", cut_outs / "00004.png.part", scores / "2" / "00004.png.part"):
        part.write_bytes(b"half of a picture")
    run(Outputs(masks, cut_outs=cut_outs, scores=scores, resume=True))
    assert len(content(masks)) == len(content(cut_outs)) == len(content(scores / "1")) == 8
    assert not list(tmp_path.rglob("*.part"))
    assert {name: content(masks)[name] for name in list(whole)[:3]} == dict(list(whole.items())[:3])
    assert read_index_map(torn).shape == (64, 96)


def test_masks_of_other_settings_are_refused_with_what_differs(run: Run, tmp_path: Path, clip: Made) -> None:
    run(Outputs(tmp_path / "m"), span=Span(end=4))
    before = content(tmp_path / "m")
    again = Outputs(tmp_path / "m", resume=True)
    with pytest.raises(OutputError, match=r"memory_every was 2, now 5; memory_size was 2, now 10$"):
        run(again, options=SegmenterOptions())
    with pytest.raises(OutputError, match=r"scales was not set, now \[1.0, 1.5\]$"):
        run(again, options=SegmenterOptions(memory_every=2, memory_size=2, scales=(1.0, 1.5)))
    with pytest.raises(OutputError, match="given masks was"):
        run(again, masks=(clip.masks[0] > 0).astype(np.uint8))
    with pytest.raises(OutputError, match="scores was not set, now 8-bit PNG"):
        run(Outputs(tmp_path / "m", scores=tmp_path / "s", resume=True))
    assert content(tmp_path / "m") == before
    (tmp_path / "other").mkdir()
    write_mask(tmp_path / "other" / "00000.png", clip.masks[0])
    with pytest.raises(OutputError, match="do not record the settings"):
        run(Outputs(tmp_path / "other", resume=True))


def test_older_masks_that_an_interrupted_run_did_not_reach_are_not_taken_up(run: Run, tmp_path: Path) -> None:
    run(Outputs(tmp_path / "m"), options=SegmenterOptions(memory_every=1))
    old = content(tmp_path / "m")
    run(Outputs(tmp_path / "m", overwrite=True), span=Span(end=3))
    run(Outputs(tmp_path / "m", resume=True))
    notes = {read_note(path) for path in (tmp_path / "m").iterdir()}
    assert len(notes) == 1
    assert not content(tmp_path / "m").items() & old.items()


def test_going_both_ways_is_taken_up_on_either_way(run: Run, tmp_path: Path, clip: Made) -> None:
    both, masks = Span(both_ways=True), {4: clip.masks[4]}
    run(Outputs(tmp_path / "whole"), masks, span=both)
    for there in ([3, 2], [3, 2, 1, 0, 4, 5]):
        folder = tmp_path / str(len(there))
        folder.mkdir()
        for number in there:
            os.link(tmp_path / "whole" / f"{number:05d}.png", folder / f"{number:05d}.png")
        before = content(folder)
        assert run(Outputs(folder, resume=True), masks, span=both).num_frames == 8
        assert before.items() <= content(folder).items()
        assert list(content(folder)) == [f"{i:05d}.png" for i in range(8)]


def test_what_cannot_be_resumed_is_told(run: Run, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="needs the folder of masks"):
        run(Outputs(overlay=tmp_path / "o.mp4", resume=True))
    with pytest.raises(OutputError, match="exclude each other"):
        run(Outputs(tmp_path / "m", overwrite=True, resume=True))
    assert not list(tmp_path.iterdir())
