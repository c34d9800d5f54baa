"""segment_clip: what is written, in which order things are checked, and what happens when something breaks."""

import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mgseg.files.video_writer
import mgseg.outputs.masks
import mgseg.segment.clip
from mgseg.errors import InputError, MgsegError, OutputError, WeightsError
from mgseg.files.masks import DAVIS_PALETTE, object_ids, write_mask
from mgseg.files.threads import WriteBehind, read_ahead
from mgseg.files.video import Frame, probe, read_frames
from mgseg.files.video_file import VideoFile
from mgseg.network import Network
from mgseg.outputs.cut_outs import CutOuts
from mgseg.outputs.table import Outputs
from mgseg.segment.clip import SegmentResult, Span, segment_clip
from mgseg.segment.segmenter import Segmenter, SegmenterOptions

Made = Any
Run = Callable[..., SegmentResult]


@pytest.fixture
def run(tiny_network: Any) -> Run:
    def segment(clip: Path, masks: Any, outputs: Outputs | None = None, **more: Any) -> SegmentResult:
        return segment_clip(clip, masks, outputs, tiny_network, **more)

    return segment


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def index_map(path: Path) -> Any:
    return np.asarray(Image.open(path))


def test_each_frame_gets_the_mask_that_the_segmenter_alone_gives(
    run: Run, clip: Made, tiny_network: Any, tmp_path: Path
) -> None:
    result = run(clip.path, clip.masks[0], Outputs(tmp_path / "masks"))
    segmenter = Segmenter(tiny_network, SegmenterOptions())
    for frame in read_frames(clip.path):
        image = frame.image
        expected = segmenter.step(image) if frame.index else segmenter.start(image, clip.masks[0])
        assert np.array_equal(index_map(tmp_path / "masks" / f"{frame.name}.png"), expected)
    assert result.num_frames == 8
    assert result.problem is None
    assert result.object_ids == (1, 2)
    assert names(tmp_path / "masks") == [f"{i:05d}.png" for i in range(8)]


def test_masks_have_the_palette_of_the_given_mask_or_else_that_of_davis(run: Run, clip: Made, tmp_path: Path) -> None:
    palette = bytes([0, 0, 0, 9, 200, 30]) + DAVIS_PALETTE[6:]
    write_mask(tmp_path / "first.png", clip.masks[0], palette)
    run(clip.path, tmp_path / "first.png", Outputs(tmp_path / "own"))
    run(clip.path, clip.masks[0], Outputs(tmp_path / "davis"))
    assert bytes(Image.open(tmp_path / "own" / "00003.png").getpalette() or []) == palette
    assert bytes(Image.open(tmp_path / "davis" / "00003.png").getpalette() or []) == DAVIS_PALETTE


def test_a_folder_of_pictures_gives_masks_of_the_same_names(run: Run, make_clip: Any, tmp_path: Path) -> None:
    made = make_clip(tmp_path / "pictures", num_frames=3)
    (made.path / "00002.png").rename(made.path / "last one.png")
    run(made.path, made.masks[0], Outputs(tmp_path / "masks"))
    assert names(tmp_path / "masks") == ["00000.png", "00001.png", "last one.png"]


def test_a_folder_of_masks_brings_objects_when_they_appear(run: Run, clip: Made, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    first = np.where(clip.masks[0] == 1, 7, 0).astype(np.uint8)
    later = np.where(clip.masks[4] == 2, 200, 0).astype(np.uint8)
    write_mask(given / "0.png", first)
    write_mask(given / "00002.png", np.zeros_like(first))  # states nothing
    write_mask(given / "00004.png", later)
    result = run(clip.path, given, Outputs(tmp_path / "masks"))
    assert result.object_ids == (7, 200)
    assert 200 not in object_ids(index_map(tmp_path / "masks" / "00003.png"))
    assert (index_map(tmp_path / "masks" / "00004.png")[later == 200] == 200).all()


def test_a_new_colour_is_a_new_object_beside_those_of_an_indexed_mask(run: Run, clip: Made, tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", (clip.masks[0] == 1).astype(np.uint8))
    rgb = np.zeros((*clip.masks[5].shape, 3), np.uint8)
    rgb[clip.masks[5] == 1] = list(DAVIS_PALETTE[3:6])  # the colour of object 1 in the other file
    rgb[clip.masks[5] == 2] = (200, 100, 250)
    Image.fromarray(rgb).save(tmp_path / "b.png")
    run(clip.path, {0: tmp_path / "a.png", 5: tmp_path / "b.png"}, Outputs(tmp_path / "masks"))
    found = index_map(tmp_path / "masks" / "00005.png")
    assert (found[clip.masks[5] == 1] == 1).all()
    assert (found[clip.masks[5] == 2] == 2).all()


def test_more_objects_than_there_are_numbers_are_refused(run: Run, clip: Made, tmp_path: Path) -> None:
    ids = np.zeros_like(clip.masks[0])
    for number in range(1, 255):
        y, x = divmod(number, 24)
        ids[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = number
    rgb = np.zeros((*ids.shape, 3), np.uint8)
    rgb[:8, :8] = (1, 2, 3)  # no colour of DAVIS's palette
    Image.fromarray(rgb).save(tmp_path / "b.png")
    write_mask(tmp_path / "a.png", ids)
    with pytest.raises(InputError, match="more than 254 objects"):
        run(clip.path, {0: tmp_path / "a.png", 5: tmp_path / "b.png"})


def test_colours_keep_their_ids_over_several_masks(run: Run, clip: Made, tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [250, 0, 0], [0, 0, 250]], np.uint8)
    first, later = colours[clip.masks[0]], colours[np.where(clip.masks[5] == 2, 2, 0)]
    Image.fromarray(first).save(tmp_path / "a.png")
    Image.fromarray(later).save(tmp_path / "b.png")
    run(clip.path, {0: tmp_path / "a.png", 5: tmp_path / "b.png"}, Outputs(tmp_path / "masks"))
    picture = Image.open(tmp_path / "masks" / "00005.png")
    disc = np.asarray(picture.convert("RGB"))[clip.masks[5] == 2]
    assert (disc == [0, 0, 250]).all()


def test_zero_in_a_later_mask_says_nothing_or_background(run: Run, clip: Made, tmp_path: Path) -> None:
    later = np.zeros_like(clip.masks[0])
    later[:8, :8] = 1
    masks = {0: clip.masks[0], 4: later}
    run(clip.path, clip.masks[0], Outputs(tmp_path / "alone"))
    run(clip.path, masks, Outputs(tmp_path / "silent"))
    run(clip.path, masks, Outputs(tmp_path / "said"), zero_is_background=True)
    alone, silent, said = (index_map(tmp_path / name / "00004.png") for name in ("alone", "silent", "said"))
    assert np.array_equal(said, later)
    assert np.array_equal(silent, np.where(later, later, alone))
    assert not np.array_equal(said, silent)
    with pytest.raises(OutputError, match="zero is background"):
        run(clip.path, masks, Outputs(tmp_path / "said", resume=True))
    run(clip.path, {0: clip.masks[0], 5: later * 0}, Outputs(tmp_path / "gone"), zero_is_background=True)
    assert not index_map(tmp_path / "gone" / "00005.png").any()


def test_both_ways_covers_the_clip_and_one_way_only_what_follows(run: Run, clip: Made, tmp_path: Path) -> None:
    masks = {5: clip.masks[5]}
    run(clip.path, masks, Outputs(tmp_path / "on"))
    both = run(clip.path, masks, Outputs(tmp_path / "both", overlay=tmp_path / "o.mkv"), span=Span(both_ways=True))
    assert names(tmp_path / "on") == ["00005.png", "00006.png", "00007.png"]
    assert len(names(tmp_path / "both")) == both.num_frames == 8
    assert len(list(read_frames(tmp_path / "o.mkv"))) == 8


def test_going_backward_is_going_forward_through_the_reversed_clip(run: Run, make_clip: Any, tmp_path: Path) -> None:
    made = make_clip(tmp_path / "pictures", num_frames=5)
    turned = tmp_path / "turned"
    turned.mkdir()
    for number, path in enumerate(sorted(made.path.iterdir(), reverse=True)):
        (turned / f"{number:05d}.png").write_bytes(path.read_bytes())
    run(made.path, {4: made.masks[4]}, Outputs(tmp_path / "a"), span=Span(both_ways=True))
    run(turned, made.masks[4], Outputs(tmp_path / "b"))
    for number in range(5):
        ours, theirs = tmp_path / "a" / f"{number:05d}.png", tmp_path / "b" / f"{4 - number:05d}.png"
        assert np.array_equal(index_map(ours), index_map(theirs))


def test_without_masks_the_overlay_still_shows_the_backward_pass(run: Run, clip: Made, tmp_path: Path) -> None:
    masks = {7: clip.masks[7]}
    run(clip.path, masks, Outputs(overlay=tmp_path / "o.mkv"), span=Span(both_ways=True))
    seen: dict[int, Any] = {}
    run(clip.path, masks, on_mask=lambda number, mask: seen.update({number: mask}), span=Span(both_ways=True))
    assert sorted(seen) == list(range(8))
    shown = next(read_frames(tmp_path / "o.mkv")).image.astype(int)
    plain = next(read_frames(clip.path)).image.astype(int)
    changed = abs(shown - plain).sum(-1) > 60
    assert (changed & (seen[0] > 0)).sum() > 0.8 * (seen[0] > 0).sum() > 0
    assert names(tmp_path) == ["o.mkv"]


@pytest.mark.parametrize("span", [Span(2, 5), Span(Fraction(2 * 1001, 30000), Fraction(5 * 1001, 30000))])
def test_start_and_end_are_frames_or_times(run: Run, clip: Made, tmp_path: Path, span: Span) -> None:
    seen: list[tuple[int, int | None]] = []
    result = run(
        clip.path,
        clip.masks[2],
        Outputs(tmp_path / "masks", overlay=tmp_path / "o.mp4"),
        span=span,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert names(tmp_path / "masks") == ["00002.png", "00003.png", "00004.png"]
    assert [frame.time for frame in read_frames(tmp_path / "o.mp4")] == [Fraction(i * 1001, 30000) for i in range(3)]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert result.to_json()["num_frames"] == 3


def test_scores_are_the_probabilities_of_each_object(run: Run, clip: Made, tiny_network: Any, tmp_path: Path) -> None:
    run(clip.path, clip.masks[0], Outputs(scores=tmp_path / "s"), span=Span(end=2))
    segmenter = Segmenter(tiny_network, SegmenterOptions())
    first, second = read_frames(clip.path, end=2)
    segmenter.start(first.image, clip.masks[0])
    segmenter.step(second.image)
    assert names(tmp_path / "s") == ["1", "2"]
    for slot, object_id in enumerate(segmenter.object_ids, 1):
        stored = index_map(tmp_path / "s" / str(object_id) / "00001.png") / 255
        assert abs(stored - segmenter.probabilities[slot]).max() <= 0.5 / 255 + 1e-6


def test_cut_outs_show_the_objects_on_transparent_ground(run: Run, clip: Made, tmp_path: Path) -> None:
    run(clip.path, clip.masks[0], Outputs(cut_outs=CutOuts(tmp_path / "c", hard=True)), span=Span(end=1))
    rgba = index_map(tmp_path / "c" / "00000.png")
    frame = next(read_frames(clip.path)).image
    inside = clip.masks[0] > 0
    assert np.array_equal(rgba[..., 3] == 255, inside)
    assert np.array_equal(rgba[inside][:, :3], frame[inside])


def test_a_cut_clip_is_segmented_as_far_as_it_goes(run: Run, make_clip: Any, tmp_path: Path) -> None:
    made = make_clip(tmp_path / "whole.mkv", num_frames=20, codec="mjpeg", pix_fmt="yuvj420p")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(made.path.read_bytes()[: made.path.stat().st_size // 2])
    result = run(cut, made.masks[0], Outputs(tmp_path / "masks", overlay=tmp_path / "o.mp4"))
    count = len(names(tmp_path / "masks"))
    assert 0 < count < 20
    assert result.num_frames == count
    assert f"{count} of 20" in str(result.problem)
    assert len(list(read_frames(tmp_path / "o.mp4"))) == count


@pytest.mark.parametrize("problem", [OutputError("disk full"), InputError("broken"), KeyboardInterrupt()])
def test_an_error_in_the_reader_or_writer_ends_the_run(
    run: Run, clip: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException
) -> None:
    frames = list(read_frames(clip.path))

    def read(*_: Any) -> Iterator[Frame]:
        yield from frames[:4]
        if not isinstance(problem, OutputError):
            raise problem

    def write(path: Path, mask: Any, palette: bytes, note: str | None, confidence: Any) -> None:
        if path.name == "00002.png" and isinstance(problem, OutputError):
            raise problem
        write_mask(path, mask, palette, note, confidence)

    monkeypatch.setattr(VideoFile, "frames", read)
    monkeypatch.setattr(mgseg.outputs.masks, "write_mask", write)
    outputs = Outputs(tmp_path / "masks", overlay=tmp_path / "o.mp4")
    begin = time.perf_counter()
    if isinstance(problem, InputError):
        assert run(clip.path, clip.masks[0], outputs).problem is problem
    else:
        with pytest.raises(type(problem)):
            run(clip.path, clip.masks[0], outputs)
    assert time.perf_counter() - begin < 30
    kept = [name for name in names(tmp_path / "masks") if name < "00002.png"]
    assert kept == ["00000.png", "00001.png"]
    assert (tmp_path / "o.mp4").exists() != isinstance(problem, OutputError)
    assert not list(tmp_path.rglob("*.part"))


def test_reading_ahead_and_writing_behind_hold_no_more_than_their_depth() -> None:
    fetched: list[int] = []

    def source() -> Iterator[int]:
        for number in range(100):
            fetched.append(number)
            yield number

    written: list[int] = []

    def write(number: int) -> None:
        time.sleep(0.001)
        written.append(number)

    with WriteBehind(depth=2) as sink:
        for number in read_ahead(source(), depth=3):
            assert len(fetched) <= number + 1 + 4
            sink.put(write, number)
            assert number - len(written) <= 3
    assert written == list(range(100))


def _bad_inputs(clip: Made, folder: Path) -> dict[str, tuple[type[MgsegError], str, dict[str, Any]]]:
    mask = clip.masks[0]
    write_mask(folder / "small.png", mask[::2, ::2].copy())
    (folder / "full").mkdir(exist_ok=True)
    write_mask(folder / "full" / "00000.png", mask)
    return {
        "no clip": (InputError, "no such file", {"clip": folder / "none.mp4"}),
        "no mask": (InputError, "no such mask", {"masks": folder / "none.png"}),
        "mask size": (InputError, "48x32, the clip is 96x64", {"masks": folder / "small.png"}),
        "array size": (InputError, "of the frame.s size", {"masks": mask[::2]}),
        "mask beyond": (InputError, "frames are 0 to 7", {"masks": {8: mask}}),
        "two masks": (InputError, "objects 1 and 2 overlap", {"masks": {None: mask, 0: (mask > 0) * np.uint8(2)}}),
        "mask outside": (InputError, "--start and --end leave out", {"masks": {1: mask}, "span": Span(2)}),
        "mask of no frame": (InputError, "does not belong", {"clip": folder / "full", "masks": folder}),
        "same place": (OutputError, "another result", {"outputs": Outputs(folder / "n", cut_outs=folder / "n")}),
        "held masks": (OutputError, "already contains", {"outputs": Outputs(folder / "full")}),
        "own clip": (
            OutputError,
            "is an input of this command",
            {"outputs": Outputs(overlay=clip.path, overwrite=True)},
        ),
        "overlay kind": (OutputError, "unknown kind", {"outputs": Outputs(overlay=folder / "o.txt")}),
        "overlay length": (OutputError, "too large an animation", {"outputs": Outputs(overlay=folder / "o.gif")}),
        "folder is a file": (OutputError, "is not a folder", {"outputs": Outputs(folder / "small.png" / "x")}),
        "weights": (WeightsError, "cannot be read", {"outputs": Outputs(folder / "m", folder / "deep" / "o.mp4")}),
    }


BAD = [
    "no clip",
    "no mask",
    "mask size",
    "array size",
    "mask beyond",
    "two masks",
    "mask outside",
    "mask of no frame",
    "same place",
    "held masks",
]
BAD += ["own clip", "overlay kind", "overlay length", "folder is a file", "weights"]


@pytest.mark.parametrize(
    ("masks", "span", "says"),
    [
        ({500: 0}, Span(), "ended before"),
        ({500: 0}, Span(both_ways=True), "ended before"),
        ({0: 0}, Span(Fraction(1, 10)), "outside of --start and --end"),
        ({0: 0}, Span(Fraction(1, 10), both_ways=True), "outside of --start and --end"),
        ({None: 0, 1: 1}, Span(Fraction(1, 10)), "outside of --start and --end"),
        ({6: 0}, Span(0, Fraction(1, 10)), "outside of --start and --end"),
        ({6: 0}, Span(0, Fraction(1, 10), both_ways=True), "outside of --start and --end"),
        ({None: 0, 3: 1}, Span(Fraction(1, 10)), "two masks are given for frame 3"),
    ],
)
def test_masks_outside_of_what_turns_out_to_be_read_are_told(
    run: Run, make_clip: Any, tmp_path: Path, masks: dict[int | None, int], span: Span, says: str
) -> None:
    made = make_clip(tmp_path / "c.mkv")  # 8 frames; the third begins before a tenth of a second, the fourth behind
    given = {frame: made.masks[number] for frame, number in masks.items()}
    problem: Any = None
    try:
        problem = run(made.path, given, Outputs(tmp_path / "masks"), span=span).problem
    except InputError as error:
        problem = error
        assert not (tmp_path / "masks").exists() or names(tmp_path / "masks") == []
    assert says in str(problem)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_weights_are_read(
    case: str, clip: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, text, arguments = _bad_inputs(clip, tmp_path)[case]
    given = {"clip": clip.path, "masks": clip.masks[0], "outputs": None, **arguments}
    monkeypatch.setattr(mgseg.files.video_writer, "_ANIMATION_PIXELS", 8 * 64 * 96 - 1)
    (tmp_path / "damaged.pth").write_bytes(b"no weights")
    network = Network(tmp_path / "damaged.pth", "cpu")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(kind, match=text):
        segment_clip(network=network, **given)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mask_beyond_the_end_is_told_even_if_the_clip_hid_its_length(
    run: Run, make_clip: Any, tmp_path: Path
) -> None:
    made = make_clip(tmp_path / "c.mkv", num_frames=3)
    assert not probe(made.path).is_counted
    result = run(made.path, {0: made.masks[0], 9: made.masks[2]})
    assert "frame 9" in str(result.problem)
    with pytest.raises(InputError, match="no frame between"):
        run(made.path, made.masks[0], span=Span(5))


def test_what_is_cut_out_from_a_box_is_written_beside_the_result_and_can_be_given_as_a_mask(
    run: Run, clip: Made, tmp_path: Path
) -> None:
    pytest.importorskip("cv2")
    rows, columns = np.nonzero(clip.masks[2] == 1)
    box = f"2=1=box:{columns.min()},{rows.min()},{columns.max() + 1},{rows.max() + 1}"
    result = run(clip.path, box, Outputs(tmp_path / "masks"), span=Span(both_ways=True))
    cut = tmp_path / "masks_given" / "00002.png"
    assert any(str(cut) in text for text in result.warnings)
    expected = clip.masks[2] == 1
    assert ((index_map(cut) == 1) & expected).sum() > 0.8 * ((index_map(cut) == 1) | expected).sum()
    run(clip.path, {2: cut}, Outputs(tmp_path / "again"), span=Span(both_ways=True))
    for name in names(tmp_path / "masks"):
        assert np.array_equal(index_map(tmp_path / "masks" / name), index_map(tmp_path / "again" / name))
    with pytest.raises(OutputError, match="masks_given already exists"):
        run(clip.path, box, Outputs(tmp_path / "masks"))


def test_a_box_in_which_nothing_is_found_leaves_nothing(run: Run, clip: Made, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    flat = tmp_path / "flat"
    flat.mkdir()
    for number in range(2):
        Image.new("RGB", (96, 64), (50, 50, 50)).save(flat / f"{number}.png")
    with pytest.raises(InputError, match=r"nothing was found for object 1 in box:8,8,40,40"):
        run(flat, ["1=box:8,8,40,40", "1=off:8,8,40,8,40,40,8,40,8,8,24,24"], Outputs(tmp_path / "masks"))
    assert not (tmp_path / "masks").exists()
