"""The example clip and its mask belong together, and the example scripts run."""

import runpy
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import mgseg
from mgseg.evaluation.metrics import region_similarity
from mgseg.files.masks import DAVIS_PALETTE, read_mask, write_mask
from mgseg.files.video import probe, read_frames
from mgseg.weights import released_weights

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_clip_is_short_small_and_whole() -> None:
    clip = EXAMPLES / "bunny.mp4"
    info = probe(clip)
    assert (info.width, info.height, info.rate, info.num_frames) == (854, 480, Fraction(25), 76)
    assert sum(1 for _ in read_frames(clip)) == 76
    assert clip.stat().st_size < 1_000_000


@pytest.mark.parametrize("name", ["bunny.png", "bunny_last.png"])
def test_a_mask_is_one_object_in_the_colours_of_davis(name: str) -> None:
    mask = read_mask(EXAMPLES / name, size=(480, 854))
    assert set(np.unique(mask.mask)) == {0, 1}
    assert mask.palette is not None
    assert mask.palette[:6] == DAVIS_PALETTE[:6]


@pytest.mark.parametrize(("name", "index"), [("bunny.png", 0), ("bunny_last.png", 75)])
def test_a_mask_lies_on_the_rabbit(name: str, index: int) -> None:
    frame = list(read_frames(EXAMPLES / "bunny.mp4"))[index].image.astype(int)
    rabbit = read_mask(EXAMPLES / name).mask == 1
    greenness = frame[..., 1] - (frame[..., 0] + frame[..., 2]) / 2  # grass is green, the rabbit grey
    assert greenness[rabbit].mean() < 3 < 20 < greenness[250:][~rabbit[250:]].mean()


@pytest.fixture
def first_mask(clip: SimpleNamespace, tmp_path: Path) -> Path:
    path = tmp_path / "first.png"
    write_mask(path, clip.masks[0])
    return path


def test_frame_by_frame_writes_a_mask_for_each_frame(
    clip: SimpleNamespace, first_mask: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    script = runpy.run_path(str(EXAMPLES / "frame_by_frame.py"))
    script["main"](str(clip.path), str(first_mask), str(tmp_path / "masks"), str(tiny_weights))
    written = sorted((tmp_path / "masks").iterdir())
    assert [path.name for path in written] == [f"{i:05d}.png" for i in range(len(clip.frames))]
    assert np.array_equal(np.asarray(Image.open(written[0])), clip.masks[0])


def test_segment_clip_writes_an_overlay_and_says_what_was_found(
    clip: SimpleNamespace, first_mask: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = runpy.run_path(str(EXAMPLES / "segment_clip.py"))
    script["main"](str(clip.path), str(first_mask), str(tmp_path / "overlay.mp4"), str(tiny_weights))
    assert probe(tmp_path / "overlay.mp4").num_frames == len(clip.frames)
    assert f"{len(clip.frames)} frames, objects (1, 2)" in capsys.readouterr().out


@pytest.mark.weights
@pytest.mark.parametrize("name", list(released_weights()))
def test_the_shipped_weights_follow_the_rabbit_to_the_last_frame(name: str) -> None:
    every = [frame.image for frame in read_frames(EXAMPLES / "bunny.mp4")]
    frames = [*every[::4], every[-1]]  # a quarter of the time, and fast motion
    first, last = (read_mask(EXAMPLES / name).mask for name in ("bunny.png", "bunny_last.png"))
    segmenter = mgseg.Segmenter(mgseg.Network(name, precision="float32"))
    mask = segmenter.start(frames[0], first)
    for frame in frames[1:]:
        mask = segmenter.step(frame)
    assert region_similarity(mask == 1, last == 1) > 0.9
