"""Outputs: what a writer is given in each kind of run, and what a table of outputs needs for one more."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from PIL import Image

from mgseg import segment_clip
from mgseg.errors import OutputError
from mgseg.files.matte import Alpha
from mgseg.files.video import Frame
from mgseg.outputs.cut_outs import CutOuts
from mgseg.outputs.kept import KeptFrames
from mgseg.outputs.table import Outputs
from mgseg.outputs.writer import OutputWriter, Segmented
from mgseg.segment.clip import Span

seen: dict[str, list[Segmented]] = {}


class Recorder(OutputWriter):
    """Takes down what it is given; it asks for scores."""

    needs_scores = True

    def write(self, item: Segmented) -> None:
        seen.setdefault(self.path.name, []).append(item)


class OrderedRecorder(Recorder):
    """The same, in the clip's order."""

    in_order = True


class MaskRecorder(Recorder):
    """The same, without scores."""

    in_order = True
    needs_scores = False


@dataclass(frozen=True)
class MoreOutputs(Outputs):
    """The table with three lines more."""

    any_order: Annotated[str | Path | None, Recorder] = None
    ordered: Annotated[str | Path | None, OrderedRecorder] = None
    ordered_masks: Annotated[str | Path | None, MaskRecorder] = None


@pytest.fixture(name="run")
def _run(tiny_network: Any, clip: Any) -> Any:
    def segment(outputs: Outputs, **more: Any) -> Any:
        seen.clear()
        masks = {4: clip.masks[4]} if more.get("span") else clip.masks[0]
        return segment_clip(clip.path, masks, outputs, tiny_network, **more)

    return segment


def numbers(name: str) -> list[int]:
    return [item.frame.index for item in seen[name]]


def test_places_may_be_text_and_are_told_as_paths(run: Any, tmp_path: Path) -> None:
    outputs = Outputs(masks=str(tmp_path / "m"), overlay=str(tmp_path / "o.mp4"))
    wanted = {name: path for name, path in outputs.paths.items() if path}
    assert wanted == {"masks": tmp_path / "m", "overlay": tmp_path / "o.mp4"}
    result = run(outputs)
    assert result.to_json()["overlay"] == str(tmp_path / "o.mp4")
    assert (tmp_path / "o.mp4").stat().st_size


def test_a_writer_is_given_every_frame_once(run: Any, tmp_path: Path) -> None:
    run(MoreOutputs(any_order=tmp_path / "any", ordered=tmp_path / "ordered"))
    assert numbers("any") == numbers("ordered") == list(range(8))
    for item in seen["any"]:
        assert item.mask is not None
        assert set(item.scores or {}) == {1, 2}
        assert not item.is_found


def test_going_both_ways_gives_videos_the_frames_in_order_with_the_same_scores(run: Any, tmp_path: Path) -> None:
    run(MoreOutputs(any_order=tmp_path / "any", ordered=tmp_path / "ordered"), span=Span(both_ways=True))
    assert numbers("any") == [3, 2, 1, 0, 4, 5, 6, 7]
    assert numbers("ordered") == list(range(8))
    first = {item.frame.index: item for item in seen["any"]}
    for item in seen["ordered"]:
        other = first[item.frame.index]
        assert np.array_equal(item.mask, other.mask)  # type: ignore[arg-type]
        for object_id, score in (other.scores or {}).items():
            assert item.scores is not None
            assert abs(item.scores[object_id] - score).max() <= 0.5 / 65535 + 1e-6


def test_frames_before_the_first_mask_have_none_in_a_video_and_are_no_picture(run: Any, tmp_path: Path) -> None:
    run(MoreOutputs(any_order=tmp_path / "any", ordered=tmp_path / "ordered"), span=Span(2))
    assert numbers("any") == [4, 5, 6, 7]
    assert numbers("ordered") == [2, 3, 4, 5, 6, 7]
    assert [item.mask is None for item in seen["ordered"]] == [True, True, False, False, False, False]


@pytest.mark.parametrize("span", [None, Span(both_ways=True)], ids=["forward", "both ways"])
def test_found_frames_are_given_too_and_videos_get_the_scores_that_were_written(
    run: Any, tmp_path: Path, span: Span | None
) -> None:
    places = {"masks": tmp_path / "m", "scores": tmp_path / "s"}
    more = {"span": span} if span else {}
    run(Outputs(**places), **more)
    for number in (5, 6, 7):
        (tmp_path / "m" / f"{number:05d}.png").unlink()
    recorders = {"any_order": tmp_path / "any", "ordered": tmp_path / "ordered", "ordered_masks": tmp_path / "masks"}
    result = run(MoreOutputs(**places, **recorders, resume=True), **more)
    assert result.num_found == 5
    assert sorted(numbers("any")) == numbers("ordered") == numbers("masks") == list(range(8))
    assert {item.frame.index for item in seen["any"] if item.is_found} == set(range(5))
    for item in seen["ordered"]:
        assert set(item.scores or {}) == {1, 2}
        assert all(score.dtype == np.float32 and 0 <= score.min() <= score.max() <= 1 for score in item.scores.values())  # type: ignore[union-attr]


def test_a_soft_video_is_not_resumed_without_scores(run: Any, tmp_path: Path) -> None:
    run(Outputs(tmp_path / "m"))
    with pytest.raises(OutputError, match="needs the scores of the finished frames") as error:
        run(MoreOutputs(tmp_path / "m", ordered=tmp_path / "ordered", resume=True))
    assert "--scores" in (error.value.hint or "")
    run(MoreOutputs(tmp_path / "m", ordered_masks=tmp_path / "masks", resume=True))
    assert numbers("masks") == list(range(8))


def test_scores_are_not_computed_unless_an_output_needs_them(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probabilities(_: Any) -> Any:
        raise AssertionError("not asked for")

    monkeypatch.setattr("mgseg.segment.segmenter.Segmenter.probabilities", property(probabilities))
    monkeypatch.setattr("mgseg.segment.segmenter.Segmenter.scores", property(probabilities))
    more = {"cut_outs": CutOuts(tmp_path / "c", hard=True), "each_object": tmp_path / "e"}
    run(MoreOutputs(tmp_path / "m", tmp_path / "o.mp4", ordered_masks=tmp_path / "masks", **more))
    assert all(item.scores is None for item in seen["masks"])


def test_what_is_made_from_masks_is_made_for_found_frames_too(run: Any, tmp_path: Path) -> None:
    def outputs(name: str, resume: bool) -> Outputs:
        cut_outs = CutOuts(tmp_path / name / "c", hard=True)
        return Outputs(tmp_path / "m", cut_outs=cut_outs, each_object=tmp_path / name / "e", resume=resume)

    run(outputs("before", resume=False))
    run(outputs("after", resume=True))
    before, after = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.png")}
        for name in ("before", "after")
    )
    assert before == after
    assert len(after) == 8 + 2 * 8


def test_soft_cut_outs_are_resumed_only_as_they_were(run: Any, tmp_path: Path, clip: Any) -> None:
    def outputs(feather: int, resume: bool = False) -> Outputs:
        return Outputs(tmp_path / "m", cut_outs=CutOuts(tmp_path / "c", Alpha(feather=feather)), resume=resume)

    run(outputs(2))
    (tmp_path / "m" / "00007.png").unlink()
    stamp = (tmp_path / "c" / "00003.png").stat().st_mtime_ns
    assert run(outputs(2, resume=True)).num_found == 7
    assert (tmp_path / "c" / "00003.png").stat().st_mtime_ns == stamp
    with pytest.raises(OutputError, match=r"cut_outs was .*feather=2.*, now .*feather=3"):
        run(outputs(3, resume=True))


def test_each_object_is_black_and_white_and_every_frame_has_one(run: Any, tmp_path: Path, clip: Any) -> None:
    run(Outputs(tmp_path / "m", each_object=tmp_path / "e"))
    for path in (tmp_path / "m").iterdir():
        mask = np.asarray(Image.open(path))
        for object_id in (1, 2):
            with Image.open(tmp_path / "e" / str(object_id) / path.name) as picture:
                assert picture.mode == "L"
                assert np.array_equal(np.asarray(picture), np.where(mask == object_id, 255, 0))


def test_pictures_are_named_by_number_where_a_pattern_is_given(run: Any, tmp_path: Path) -> None:
    names = [f"shot_{number:03d}.png" for number in range(8)]
    run(Outputs(tmp_path / "m", scores=tmp_path / "s", name="shot_%03d.png"))
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == names
    assert sorted(path.name for path in (tmp_path / "s" / "2").iterdir()) == names
    (tmp_path / "m" / names[-1]).unlink()
    assert run(Outputs(tmp_path / "m", scores=tmp_path / "s", name="shot_%03d.png", resume=True)).num_found == 7


@pytest.mark.parametrize("name", ["shot.png", "%05d", "%05d.exr", "../%d.png", "%s.png", "%d%d.png", "%99d.png", "%"])
def test_a_name_that_is_no_pattern_is_refused(name: str) -> None:
    with pytest.raises(OutputError, match="not a pattern for numbered pictures") as error:
        Outputs("m", name=name)
    assert "%05d.png" in (error.value.hint or "")


def test_kept_frames_leave_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    frame = Frame(3, Fraction(1), np.zeros((4, 6, 3), np.uint8), "three")
    with KeptFrames() as kept:
        kept.put(Segmented(frame, np.full((4, 6), 7, np.uint8)))
        assert list(tmp_path.rglob("*.npz"))
        assert kept.take(frame).mask is not None
        assert not list(tmp_path.rglob("*.npz"))
        assert kept.take(frame).mask is None
    assert not list(tmp_path.iterdir())


def test_each_output_says_what_it_writes_in_the_documentation_of_the_table() -> None:
    for name in Outputs().paths:
        assert f"\n        {name}: " in (Outputs.__doc__ or "")
