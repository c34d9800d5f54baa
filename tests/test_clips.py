"""Clips and whole sequences of videos in the layout of DAVIS and YouTube-VOS."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mgseg.data.catalog import Split, find_split
from mgseg.data.clips import Clips, Videos
from mgseg.data.scene import ClipRequest, render
from mgseg.data.transforms import Augmentation
from mgseg.errors import DatasetError

HEIGHT, WIDTH = 60, 100
BRIGHTNESS = 8  # of frame n is 8 n, so that a rendered frame tells its number


def make_video(root: Path, name: str, length: int = 20, every: int = 1, value: int = 1) -> None:
    """A square moves to the right, a second one stands; YouTube-VOS masks only every fifth frame."""
    for folder in ("JPEGImages", "Annotations"):
        (root / folder / name).mkdir(parents=True)
    for index in range(length):
        frame = np.full((HEIGHT, WIDTH, 3), BRIGHTNESS * index, np.uint8)
        Image.fromarray(frame).save(root / "JPEGImages" / name / f"{index:05}.jpg", quality=95)
        if index % every == 0:
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[15:35, 10 + index : 30 + index] = value
            mask[40:50, 80:90] = min(2 * value, 255)
            Image.fromarray(mask).save(root / "Annotations" / name / f"{index:05}.png")


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    for name in ("bear", "goat"):
        make_video(tmp_path, name)
    return tmp_path


def split(root: Path, *names: str, single_object: bool = False) -> Split:
    found = find_split(str(root), "all", None).only(names)
    return replace(found, protocol="davis16") if single_object else found


def clips(root: Path, *names: str, options: Augmentation | None = None, single_object: bool = False) -> Clips:
    return Clips(split(root, *names, single_object=single_object), options or Augmentation(flip=0))


def numbers(source: Clips, seed: int, request: ClipRequest) -> list[int]:
    """The frames that a clip is made of, read from their brightness."""
    images = render([source.draw(np.random.default_rng(seed), request)], "cpu").images[0]
    return [round(float(value) * 255 / BRIGHTNESS) for value in images.mean((1, 2, 3))]


@pytest.mark.parametrize("max_skip", [1, 4, 25])
def test_frames_come_in_order_within_the_skip(davis: Path, max_skip: int) -> None:
    source = clips(davis, "bear", "goat")
    found = [numbers(source, seed, ClipRequest(3, 1, 32, max_skip)) for seed in range(40)]
    steps = np.diff(found, axis=1)
    longest = min(max_skip, 9)  # (20 - 1) // 2: what fits twice
    assert steps.min() == 1
    assert steps.max() == longest
    assert np.max(found) <= 19
    assert np.min(found) >= 0
    assert len({tuple(clip) for clip in found}) > 5


def test_clips_may_run_backwards(davis: Path) -> None:
    source = clips(davis, "bear", options=Augmentation(reverse=1.0))
    assert all((np.diff(numbers(source, seed, ClipRequest(3, 1, 32, 3))) < 0).all() for seed in range(10))


def test_a_mask_moves_with_its_frame(davis: Path) -> None:
    source = clips(davis, "bear", options=Augmentation(flip=0, resize=32))
    batch = render([source.draw(np.random.default_rng(2), ClipRequest(2, 2, 60, 5))], "cpu")
    first, last = (mask.nonzero().float().mean(0) for mask in (batch.masks[0] == batch.masks[0].max()))
    assert first[0] == pytest.approx(float(last[0]), abs=1.5)
    assert batch.masks[0].max() in (1, 2)


def test_single_object_joins_all_positive_ids(tmp_path: Path) -> None:
    make_video(tmp_path, "bear", value=255)
    joined = Videos(split(tmp_path, "bear", single_object=True)).read(0, 0)
    assert joined
    mask = joined[1]
    assert set(np.unique(mask)) == {0, 1}
    assert mask.sum() == 400 + 100
    source = clips(tmp_path, "bear", single_object=True)
    batch = render([source.draw(np.random.default_rng(0), ClipRequest(2, 3, 32, 5))], "cpu")
    assert (batch.masks[0, 0] == 1).any()


def test_black_and_white_masks_show_an_object_but_in_datasets_that_say_otherwise(tmp_path: Path) -> None:
    make_video(tmp_path, "bear", value=255)
    mine = split(tmp_path, "bear")
    assert Clips(mine).draw(np.random.default_rng(0), ClipRequest(2, 3, 32, 5)).name.startswith("bear/")
    with pytest.raises(DatasetError, match="no clip") as caught:
        Clips(replace(mine, white_is_void=True)).draw(np.random.default_rng(0), ClipRequest(2, 3, 32, 5))
    assert "255 is void" in str(caught.value.hint)


def test_only_frames_with_a_mask_are_used(tmp_path: Path) -> None:
    make_video(tmp_path, "0a1b", every=5)
    (video,) = split(tmp_path, "0a1b").sequences
    assert [frame.stem for frame, _ in video.labelled_frames()] == ["00000", "00005", "00010", "00015"]
    assert Videos(split(tmp_path, "0a1b")).num_frames(0) == 4
    assert set(np.diff(numbers(clips(tmp_path, "0a1b"), 0, ClipRequest(3, 1, 32, 1)))) == {5}


def test_incomplete_sequences_are_refused(davis: Path) -> None:
    frame = davis / "JPEGImages" / "bear" / "00003.jpg"
    frame.rename(davis / "elsewhere")
    with pytest.raises(DatasetError, match="bear has no frame 00003"):
        clips(davis, "bear")
    (davis / "elsewhere").rename(frame)
    for mask in (davis / "Annotations" / "goat").iterdir():
        mask.unlink()
    with pytest.raises(DatasetError, match=r"goat.*no masks"):
        clips(davis, "goat")


def test_bad_frames_are_named_and_skipped(davis: Path) -> None:
    for index in range(10):
        (davis / "JPEGImages" / "bear" / f"{index:05}.jpg").write_bytes(b"no picture")
    source = clips(davis, "bear")
    request = ClipRequest(2, 1, 32, 1)
    found = [numbers(source, seed, request) for seed in range(12)]
    assert np.min(found) == 10
    assert all(name.startswith("bear/0000") for name in source.problems)
    assert len(source.problems) > 3


def test_a_mask_of_another_size_is_named_and_its_frame_skipped(davis: Path) -> None:
    Image.new("L", (10, 10), 1).save(davis / "Annotations" / "bear" / "00002.png")
    videos = Videos(split(davis, "bear"))
    assert len(list(videos.stretch(0, 0, 20))) == 19
    ((name, reason),) = videos.problems.items()
    assert name == "bear/00002"
    assert "(10, 10)" in reason


def test_a_video_whose_frames_differ_in_size_is_named(davis: Path) -> None:
    for index in range(10, 20):
        for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
            path = davis / folder / "bear" / f"{index:05}.{suffix}"
            Image.open(path).crop((0, 0, 90, 60)).save(path)
    source = clips(davis, "bear")
    found = [numbers(source, seed, ClipRequest(2, 1, 32, 9)) for seed in range(20)]
    assert source.problems == {"bear": "its frames differ in size"}
    videos = Videos(split(davis, "bear"))
    assert len(list(videos.stretch(0, 0, 20))) == 10
    assert videos.problems == source.problems
    assert all((first < 10) == (last < 10) for first, last in found)


def test_videos_too_short_for_a_clip_are_refused(tmp_path: Path) -> None:
    make_video(tmp_path, "short", length=2)
    with pytest.raises(DatasetError, match="no clip of 3 frames"):
        clips(tmp_path, "short").draw(np.random.default_rng(0), ClipRequest(3, 1, 32, 5))


def test_the_cache_does_not_change_what_is_drawn(davis: Path) -> None:
    both = split(davis, "bear", "goat")
    cached, uncached = Clips(both), Clips(both, cache_bytes=0)
    for _ in range(2):
        for seed in range(4):
            one, other = (
                render([source.draw(np.random.default_rng(seed), ClipRequest(3, 2, 48, 3))], "cpu")
                for source in (cached, uncached)
            )
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.masks, other.masks)


def test_sequences_are_read_whole_in_order_and_lazily(davis: Path) -> None:
    videos = Videos(split(davis, "bear", "goat"))
    assert len(videos) == 2
    frames = list(videos.stretch(1, 0, 20))
    assert [round(float(frame.mean()) / BRIGHTNESS) for frame, _ in frames] == list(range(20))
    assert frames[0][0].shape == (HEIGHT, WIDTH, 3)
    assert frames[0][1].shape == (HEIGHT, WIDTH)
    (davis / "JPEGImages" / "bear" / "00005.jpg").write_bytes(b"")
    reader = videos.stretch(0, 0, 20)
    assert len([next(reader) for _ in range(5)]) == 5
    assert videos.problems == {}  # the broken sixth has not been touched
    assert round(float(next(reader)[0].mean()) / BRIGHTNESS) == 6
    assert list(videos.problems) == ["bear/00005"]


def test_files_of_other_systems_are_no_frames(davis: Path) -> None:
    for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
        folder = davis / kind / "bear"
        (folder / f"._00003.{suffix}").write_bytes(b"\0\5\x16\7 Mac OS X")
        (folder / f"00004.{suffix}").rename(folder / f"00004.{suffix.upper()}")
        (folder / "Thumbs.db").write_bytes(b"")
    videos = Videos(split(davis, "bear"))
    assert len(list(videos.stretch(0, 0, 20))) == videos.num_frames(0) == 20
