"""A video as masks: a grey or alpha matte of the same clip."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mgseg.errors import InputError
from mgseg.files.mask_video import read_mattes
from mgseg.files.video import probe
from mgseg.outputs.table import Outputs
from mgseg.segment.clip import segment_clip
from mgseg.segment.given_masks import GivenMasks

SIZE = (64, 96)
U8 = NDArray[np.uint8]


def mattes(count: int = 8, empty: int = 0) -> list[U8]:
    """A square that moves, after some frames without it."""
    made = []
    for number in range(count):
        matte = np.zeros(SIZE, np.uint8)
        if number >= empty:
            matte[16:48, 16 + 2 * number : 48 + 2 * number] = 255
        made.append(matte)
    return made


def write(path: Path, made: list[U8], codec: str, pixels: str, options: dict[str, str] | None = None) -> Path:
    """Write a matte: as grey, or as the alpha of a picture in colour."""
    with av.open(path, "w") as file:
        stream: Any = file.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], pixels
        for matte in made:
            if "a" in pixels.replace("gray", ""):
                picture = np.dstack([np.full((*SIZE, 3), (30, 160, 90), np.uint8), matte])
                frame = av.VideoFrame.from_ndarray(picture, format="rgba")
            else:
                frame = av.VideoFrame.from_ndarray(np.repeat(matte[:, :, None], 3, axis=2), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("m.mp4", "libx264", "yuv420p"),
        ("m.mkv", "ffv1", "gray"),
        ("m.mov", "prores_ks", "yuva444p10le"),
        ("m.webm", "libvpx-vp9", "yuva420p"),
        ("m.mov", "qtrle", "argb"),
    ],
)
def test_grey_and_alpha_are_read_as_the_same_mattes(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    found = list(read_mattes(write(tmp_path / name, mattes(), codec, pixels)))
    assert len(found) == 8
    for matte, expected in zip(found, mattes(), strict=True):
        assert ((matte >= 128) != (expected >= 128)).mean() < 0.01


def test_a_video_in_colour_without_alpha_is_refused(clip: Any) -> None:
    with pytest.raises(InputError, match=r"frame 0 of the mask .*shapes\.mp4 is in colour") as caught:
        list(read_mattes(clip.path))
    assert "alpha channel" in str(caught.value.hint)


def test_every_frame_of_a_matte_is_the_mask_of_its_frame(clip: Any, tiny_network: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "m.mkv", mattes(8, empty=2), "ffv1", "gray")
    segment_clip(clip.path, path, Outputs(tmp_path / "out"), tiny_network)
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == [f"{number:05d}.png" for number in range(2, 8)]
    for number, matte in enumerate(mattes(8, empty=2)):
        if number >= 2:
            assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / f"{number:05d}.png")), matte > 0)


def test_one_frame_of_a_matte_is_taken_by_its_number(clip: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "m.mkv", mattes(), "ffv1", "gray")
    given = GivenMasks(path, probe(clip.path), mask_from=3)
    mask = given.take(3, np.zeros((*SIZE, 3), np.uint8), is_first=False)
    assert given.first == 3
    assert np.array_equal(mask, mattes()[3] > 0)
    with pytest.raises(InputError, match=r"frame 9|ends before frame 9"):
        GivenMasks(path, probe(clip.path), mask_from=9)
    with pytest.raises(InputError, match="no mask is a video"):
        GivenMasks(np.ones(SIZE, np.uint8), probe(clip.path), mask_from=0)


def test_a_matte_of_another_length_or_size_is_refused_with_both(clip: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "m.mp4", mattes(5), "libx264", "yuv420p")
    with pytest.raises(InputError, match=r"m\.mp4 has 5 frames, .*shapes\.mp4 has 8") as caught:
        GivenMasks(path, probe(clip.path))
    assert "--mask-from" in str(caught.value.hint)
    assert GivenMasks(path, probe(clip.path), mask_from=0).first == 0
    (tmp_path / "frames").mkdir()
    for number in range(5):
        Image.new("RGB", (80, 60)).save(tmp_path / "frames" / f"{number}.png")
    with pytest.raises(InputError, match=r"m\.mp4 is 96x64, the clip is 80x60"):
        GivenMasks(path, probe(tmp_path / "frames"))
    with pytest.raises(InputError, match="already has a mask for every frame"):
        GivenMasks({2: path}, probe(clip.path))
