"""Masks given for several frames: references, both ways between them, what a further mask changes; the report."""

import html
import json
import re
import shlex
import sys
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MadeClip, make_clip
from PIL import Image
from typer.testing import CliRunner

from mgseg.cli import app
from mgseg.errors import InputError, OutputError
from mgseg.files.masks import read_index_map, write_mask
from mgseg.files.video import Frame, probe
from mgseg.model.confidence import FEATURES, ConfidenceModel
from mgseg.model.memory import MemoryBank
from mgseg.network import Network
from mgseg.outputs.table import Outputs
from mgseg.outputs.timeline import Timeline
from mgseg.outputs.writer import Segmented
from mgseg.segment.backward_pass import BackwardPass
from mgseg.segment.clip import SegmentResult, segment_clip
from mgseg.segment.given_masks import GivenMasks
from mgseg.segment.options import SegmenterOptions
from mgseg.segment.segmenter import Segmenter
from mgseg.segment.stretches import plan_stretches

OPTIONS = SegmenterOptions(size=32, memory_every=2)
ONE = dict.fromkeys(FEATURES, 1.0)
UNSURE = ConfidenceModel(dict.fromkeys(FEATURES, 0.0), ONE, dict.fromkeys(FEATURES, 0.0), -1.0, 0.2689, "made up")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> MadeClip:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 14)


@pytest.fixture(scope="module")
def network(tiny_model, tmp_path_factory: pytest.TempPathFactory) -> Network:
    """The tiny network with a confidence model."""
    from mgseg.weights import save_weights

    path = tmp_path_factory.mktemp("weights") / "unsure.pth"
    save_weights(path, tiny_model.config, tiny_model.state_dict(), extra={"confidence": UNSURE.to_dict()})
    return Network(path, "cpu")


def run(clip: MadeClip, network: Network, folder: Path | None, *frames: int, **more) -> SegmentResult:
    masks = {frame: clip.masks[frame] for frame in frames}
    outputs = Outputs(folder, resume=more.pop("resume", False), report=more.pop("report", None))
    return segment_clip(clip.path, masks, outputs, network, options=OPTIONS, zero_is_background=True, **more)


def masks_in(folder: Path) -> list[np.ndarray]:
    return [read_index_map(path) for path in sorted(folder.glob("*.png"))]


def test_stretches_end_at_masks_that_state_every_known_object(clip):
    one = np.where(clip.masks[5] == 2, np.uint8(2), np.uint8(0))
    masks = {0: clip.masks[0], 5: one, 9: clip.masks[9]}
    stretches = plan_stretches(GivenMasks(masks, probe(clip.path), zero_is_background=True), split=True)
    assert [(s.start, s.end, list(s.references)) for s in stretches] == [(0, 9, [0, 5, 9]), (9, None, [0, 5, 9])]
    silent = plan_stretches(GivenMasks(masks, probe(clip.path)), split=True)
    assert [list(s.references) for s in silent] == [[0, 5, 9], [0, 5, 9]]
    whole = plan_stretches(GivenMasks(masks, probe(clip.path)), split=False)
    assert [(s.start, s.end) for s in whole] == [(0, None)]


def test_given_frames_keep_their_masks_and_between_them_both_count(clip, network, tmp_path):
    forward = run(clip, network, tmp_path / "one", 0)
    both = run(clip, network, tmp_path / "two", 0, 9)
    assert forward.num_frames == both.num_frames == 14
    one, two = masks_in(tmp_path / "one"), masks_in(tmp_path / "two")
    assert (two[9] == clip.masks[9]).all()
    assert any((a != b).any() for a, b in zip(one[1:9], two[1:9], strict=True))


@pytest.mark.parametrize(
    ("further", "first", "last"),
    [(2, 0, 3), (6, 4, 7), (10, 8, 13), (12, 11, 13)],
    ids=["first stretch", "middle", "stretch before the last, and so the last too", "last stretch"],
)
def test_a_further_mask_redoes_only_the_stretch_around_it(clip, network, tmp_path, further, first, last):
    given = (0, 4, 8, 11)
    run(clip, network, tmp_path / "masks", *given)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "masks").iterdir()}
    result = run(clip, network, tmp_path / "masks", *sorted((*given, further)), resume=True)
    assert result.redone == ((first, last),)
    assert result.num_found == 14 - (last - first + 1)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "masks").iterdir()}
    redone = [f"{i:05d}.png" for i in range(first, last + 1)]
    assert sorted(name for name in before if before[name] != after[name]) == redone
    run(clip, network, tmp_path / "anew", *sorted((*given, further)))
    assert all((a == b).all() for a, b in zip(masks_in(tmp_path / "masks"), masks_in(tmp_path / "anew"), strict=True))
    again = run(clip, network, tmp_path / "masks", *sorted((*given, further)), resume=True)
    assert again.redone == ()


def test_the_last_stretch_continues_with_the_memory_of_the_one_before_it(clip, network, monkeypatch):
    used = set()
    forget = MemoryBank.forget
    monkeypatch.setattr(MemoryBank, "forget", lambda bank: (used.add(bank), forget(bank)))
    run(clip, network, None, 0, 4, 9)
    assert len(used) == 2  # one for each object
    for bank in used:
        assert bank.given == [-1, 0, 5]  # frames 0, 4 and 9: the memory counts from frame 4, where it was begun anew
        assert bank.kept == [2, 4, 6]


def test_an_interrupted_stretch_is_finished_as_if_it_had_not_been(clip, network, tmp_path):
    run(clip, network, tmp_path / "masks", 0, 9)
    whole = masks_in(tmp_path / "masks")
    for number in (6, 7, 8):
        (tmp_path / "masks" / f"{number:05d}.png").unlink()
    result = run(clip, network, tmp_path / "masks", 0, 9, resume=True)
    assert result.redone[0][0] == 6
    assert len(masks_in(tmp_path / "masks")) == len(whole)


def test_resume_with_other_masks_altogether_is_refused(clip, network, tmp_path):
    run(clip, network, tmp_path / "masks", 0, 9)
    with pytest.raises(OutputError, match=r"given masks was 0: .*, 9: "):
        run(clip, network, tmp_path / "masks", 1, resume=True)


def test_remembered_masks_are_read_from_the_next_frame_on(clip, network):
    results = []
    for remembered in (False, True):
        segmenter = Segmenter(network, OPTIONS)
        segmenter.start(clip.frames[0], clip.masks[0])
        if remembered:
            segmenter.remember(clip.frames[9], clip.masks[9])
        segmenter.step(clip.frames[1])
        results.append(segmenter.probabilities)
    assert (results[0] != results[1]).any()
    with pytest.raises(InputError, match="before the first frame"):
        Segmenter(network, OPTIONS).remember(clip.frames[0], clip.masks[0])


def test_forgetting_leaves_what_was_added_otherwise():
    def marked(value: float) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((1, 2, 3, 4), value), torch.full((1, 5, 3, 4), value)

    bank = MemoryBank(1, 3)
    bank.add(0, *marked(0), given=True)
    bank.forget()  # nothing is remembered
    bank.remember(*marked(90))
    bank.remember(*marked(91))
    for number in range(1, 8):  # slots in the middle are freed and taken again
        bank.add(number, *marked(number))
    bank.forget()
    assert bank.given == [-1, 0]
    for number in (8, 9):
        keys, values = bank.read_views()
        held = [0.0, 90.0, *map(float, bank.kept), number - 1.0]
        assert sorted(set(keys.flatten().tolist())) == sorted(set(values.flatten().tolist())) == sorted(held)
        assert bank.given_positions().view(len(bank), -1)[:, 0].sum() == 2
        bank.add(number, *marked(number))


def test_a_remembered_frame_changes_no_rule_of_what_is_kept():
    kept = []
    for remembered in (False, True):
        bank = MemoryBank(memory_every=3, memory_size=2)
        for t in range(20):
            bank.add(t, torch.zeros(1, 2, 3, 4), torch.zeros(1, 5, 3, 4), given=t == 0)
            if t == 0 and remembered:
                bank.remember(torch.ones(1, 2, 3, 4), torch.ones(1, 5, 3, 4))
        kept.append(list(bank.kept))
    assert kept[0] == kept[1]
    assert len(bank) == 5
    assert bank.given == [-1, 0]


def test_blending_joins_probabilities(clip, network):
    segmenter = Segmenter(network, OPTIONS)
    segmenter.start(clip.frames[0], clip.masks[0])
    segmenter.step(clip.frames[1])
    other = np.zeros_like(segmenter.network_probabilities)
    other[2] = 1
    assert (segmenter.blend(other, 1.0) == 2).all()
    with pytest.raises(InputError, match="2 planes cannot be blended with those of 2 objects"):
        segmenter.blend(other[:2], 0.5)
    segmenter.step(clip.frames[2])
    before = segmenter.network_probabilities
    segmenter.blend(other, [0.25, 0.75])
    mixed = np.stack([(before[0] + other[0]) / 2, 0.75 * before[1] + 0.25 * other[1], (before[2] + 3 * other[2]) / 4])
    np.testing.assert_allclose(segmenter.network_probabilities, mixed / mixed.sum(0), atol=1e-6)


class _Pass:
    """A segmenter's side of a join: two objects, each shown in one column or lost, each with a confidence."""

    object_ids = (3, 8)

    def __init__(self, shown: tuple[bool, bool], confidence: tuple[float, float] | None) -> None:
        prob = np.full((3, 1, 2), 0.1, np.float32)
        for column, is_shown in enumerate(shown):
            prob[1 + column if is_shown else 0, 0, column] = 0.8
        self.network_probabilities = prob
        self.confidence = dict(zip(self.object_ids, confidence, strict=True)) if confidence else None
        self.weights: list[float] = []

    def blend(self, other: np.ndarray, weights: list[float]) -> np.ndarray:
        self.weights = weights
        return np.zeros((1, 2), np.uint8)


@pytest.mark.parametrize(
    ("ahead", "behind", "expected"),
    [
        (((True, True), (0.8, 0.8)), ((True, True), (0.8, 0.2)), (0.1, 0.2 / 7.4)),
        (((True, False), (0.8, 0.8)), ((False, True), (0.8, 0.8)), (0, 1)),
        (((True, False), (0.8, 0.8)), ((True, False), (0.8, 0.2)), (0.1, 0.1)),
        (((True, True), None), ((True, False), None), (0.1, 0)),
    ],
    ids=["confidence and distance", "lost in one pass", "lost in both", "no confidence model"],
)
def test_passes_are_joined_by_distance_confidence_and_what_they_show(ahead, behind, expected):
    with ExitStack() as exits:
        backward, forward = BackwardPass(exits, (0, 4)), _Pass(*ahead)
        backward.put(1, _Pass(*behind))  # a quarter of the way: by distance alone it weighs 0.1
        _, confidence = backward.join(1, np.zeros((1, 2), np.uint8), forward)
    weights = np.array(expected)
    np.testing.assert_allclose(forward.weights, weights, atol=1e-4)
    if ahead[1]:
        joined = (1 - weights) * ahead[1] + weights * behind[1]
        np.testing.assert_allclose([confidence[3], confidence[8]], joined, atol=1e-4)
    else:
        assert confidence is None


def test_the_command_says_what_to_look_at_and_the_report_shows_it(clip, network, tmp_path, monkeypatch):
    command = ["segment", clip.path]
    for frame in (0, 9, 12):
        write_mask(tmp_path / f"{frame}.png", clip.masks[frame])
        command += ["--mask", f"{frame}={tmp_path}/{frame}.png"]
    command += [
        "--zero-is-background",
        "--weights",
        network.path,
        "--size",
        32,
        "--report",
        tmp_path / "r.html",
        "-o",
        tmp_path / "out",
    ]
    monkeypatch.setattr(sys, "argv", ["mgseg", *map(str, command)])
    done = CliRunner().invoke(app, [*map(str, command), "--json"])
    assert done.exit_code == 0, done.output
    assert "look at frames 1-13 (object 1), frames 1-13 (object 2)" in done.stderr.replace("\n", " ")
    found = json.loads(done.stdout)
    assert found["objects"]["1"]["frames"] == list(range(14))
    confidence = found["objects"]["1"]["confidence"]
    assert confidence[0] == confidence[9] == 1
    assert confidence[5] == pytest.approx(1 / (1 + np.e), abs=1e-3)
    assert {entry["object_id"] for entry in found["look_at"]} == {1, 2}
    assert found["scene_cuts"] == []
    resumed = CliRunner().invoke(app, [*map(str, command), "--resume", "--json"])
    assert json.loads(resumed.stdout)["objects"]["1"]["confidence"] == confidence
    page = (tmp_path / "r.html").read_text()
    assert page.count('src="data:image/jpeg;base64,') == 2  # the worst frame of each object
    assert f"mgseg frame {clip.path} " in page
    assert "=corrected.png --zero-is-background --resume" in page
    monkeypatch.chdir(tmp_path)
    write_mask(tmp_path / "corrected.png", clip.masks[5])
    text = re.search(r"(mgseg segment .*--resume)", page).group(1)  # as a reader would run it
    again = CliRunner().invoke(app, shlex.split(html.unescape(text))[1:])
    assert again.exit_code == 0, again.output
    assert "frames (" in again.stderr
    assert "redone: frames " in again.stderr
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_report_of_a_clip_without_doubts_shows_its_least_confident_frame(clip, network, tmp_path, monkeypatch):
    for module in ("report", "timeline"):
        monkeypatch.setattr(f"mgseg.outputs.{module}.LOOK_AT", 0.1)
    result = run(clip, network, None, 0, report=tmp_path / "r.html")
    assert result.timeline.stretches() == []
    page = (tmp_path / "r.html").read_text()
    assert "The least confident frame" in page
    assert page.count('src="data:image/jpeg;base64,') == 1
    values = [min(values) for _, _, values, _ in result.timeline.tracks()]
    assert f"predicted J {min(values):.2f}\n" in page


def test_weights_without_confidence_say_so(clip, tiny_network, tmp_path):
    result = run(clip, tiny_network, None, 0, report=tmp_path / "r.html")
    assert not result.timeline.has_confidence
    assert result.to_json()["objects"]["1"]["confidence"] == [None] * 14
    assert "These weights contain no confidence model" in (tmp_path / "r.html").read_text()


def test_a_cut_is_told(network, tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in range(8):
        colour = (200, 60, 40) if number < 5 else (20, 90, 220)
        Image.new("RGB", (96, 64), colour).save(folder / f"{number}.png")
    mask = np.zeros((64, 96), np.uint8)
    mask[20:40, 20:50] = 1
    result = segment_clip(folder, mask, Outputs(), network, options=OPTIONS)
    assert result.timeline.cuts == [5]


def test_a_frame_is_saved_to_paint_on(clip, tmp_path):
    place = tmp_path / "still.png"
    done = CliRunner().invoke(app, ["frame", str(clip.path), "5", "-o", str(place)])
    assert done.exit_code == 0, done.output
    plain = np.asarray(Image.open(place))
    assert plain.shape == clip.frames[5].shape
    assert np.abs(plain.astype(int) - clip.frames[5]).mean() < 12  # a codec lies between them
    write_mask(tmp_path / "masks.png", clip.masks[5])
    command = ["frame", str(clip.path), "5", "-o", str(place), "--mask-overlay", str(tmp_path / "masks.png")]
    assert CliRunner().invoke(app, command).exit_code == 1  # it exists
    assert CliRunner().invoke(app, [*command, "--overwrite"]).exit_code == 0
    write_mask(tmp_path / "masks.png", clip.masks[5][::2, ::2])
    refused = CliRunner().invoke(app, [*command, "--overwrite"])
    assert "in mgseg segment: use --resize-mask" in refused.stderr  # `mgseg frame` has no such option
    changed = (np.asarray(Image.open(place)) != plain).any(-1)
    assert changed[clip.masks[5] > 0].mean() > 0.9
    assert not changed[clip.masks[5] == 0].any()
    missing = CliRunner().invoke(app, ["frame", str(clip.path), "99", "-o", str(tmp_path / "no.png")])
    assert missing.exit_code == 1
    assert "has no frame 99" in missing.stderr


def test_the_suggested_frame_is_in_the_worst_stretch_and_not_beside_a_given_mask():
    timeline = Timeline()
    mask = np.ones((4, 4), np.uint8)
    for number in range(60):
        value = 1.0 if number == 0 else 0.2 if number in (1, 30) else 0.5 if 40 <= number < 52 else 0.9
        frame = Frame(number, Fraction(number), np.zeros((4, 4, 3), np.uint8), f"{number}")
        timeline.add(Segmented(frame, mask, confidence={1: value}))
    assert 43 <= timeline.suggest() <= 48
    assert timeline.stretches()[0].worst in (1, 30)
    assert Timeline().suggest() is None
