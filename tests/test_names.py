"""File names as other systems have them: Unicode forms, Windows' devices and paths. All of it runs on any system."""

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mgseg.files.names
from mgseg.errors import InputError, OutputError
from mgseg.files.names import check_name, find_path, masks_folder
from mgseg.files.video import open_clip
from mgseg.outputs.table import Outputs
from mgseg.segment.clip import segment_clip
from mgseg.segment.mask_sources import FileSource, parse_mask

COMPOSED = "caf\u00e9"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


@pytest.mark.parametrize(("typed", "there"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_name_in_another_unicode_form_is_found(tmp_path: Path, clip: Any, typed: str, there: str) -> None:
    folder = tmp_path / there
    folder.mkdir()
    (folder / f"{there}.mp4").write_bytes(clip.path.read_bytes())
    with open_clip(tmp_path / typed / f"{typed}.mp4") as source:
        assert source.info.width == 96
    with pytest.raises(InputError, match="no such mask"):
        find_path(tmp_path / f"{typed}s", "mask")


def test_a_name_that_no_file_can_have_is_told(tmp_path: Path) -> None:
    for name in ("x" * 999 + ".mp4", "a\0b.mp4"):
        with pytest.raises(InputError), open_clip(tmp_path / name):
            pass


def test_masks_belong_to_frames_of_the_same_letters(tmp_path: Path, make_clip: Any, tiny_network: Any) -> None:
    made = make_clip(tmp_path / "frames", num_frames=3)
    (tmp_path / "masks").mkdir()
    for number in range(3):
        (made.path / f"{number:05d}.png").rename(made.path / f"{number} {DECOMPOSED}.png")
    Image.fromarray(made.masks[0]).save(tmp_path / "masks" / f"0 {COMPOSED}.png")
    result = segment_clip(made.path, tmp_path / "masks", Outputs(tmp_path / "out"), tiny_network)
    assert result.num_frames == 3
    assert (tmp_path / "out" / f"2 {DECOMPOSED}.png").exists()
    Image.new("RGB", (96, 64)).save(made.path / f"0 {COMPOSED}.png")
    with pytest.raises(InputError, match="more than one picture named"), open_clip(made.path):
        pass


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        ("a/bunny.mp4", "bunny_masks"),
        ("con.mp4", "con_masks"),
        ("con.cut.mp4", "_con.cut_masks"),  # Windows takes what begins with "con." for the console
        ("LPT1.2024.mkv", "_LPT1.2024_masks"),
        ("ends in dots...mp4", "ends in dots.._masks"),
        ("-", "stdin_masks"),
    ],
)
def test_the_folder_of_masks_has_a_name_that_every_system_takes(clip: str, expected: str) -> None:
    assert masks_folder(Path(clip)) == Path(expected)


def test_a_folder_of_frames_keeps_its_whole_name(tmp_path: Path) -> None:
    for name in ("shot.001", "shot.002"):
        (tmp_path / name).mkdir()
    assert masks_folder(tmp_path / "shot.001") == Path("shot.001_masks")
    assert masks_folder(tmp_path / "shot.002") == Path("shot.002_masks")


@pytest.mark.parametrize("name", ["con.mp4", "NUL", "aux .mkv", "com1.webm", "COM¹.mp4", "masks.", "masks "])
def test_names_that_windows_does_not_take_are_refused_there_before_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip: Any, tiny_network: Any, name: str
) -> None:
    check_name(tmp_path / name)
    monkeypatch.setattr(mgseg.files.names, "ON_WINDOWS", True)
    video = Path(name).suffix in (".mp4", ".mkv", ".webm")
    outputs = Outputs(overlay=tmp_path / name) if video else Outputs(masks=tmp_path / name)
    with pytest.raises(OutputError, match="Windows"):
        segment_clip(clip.path, clip.masks[0], outputs, tiny_network)
    check_name(tmp_path / "console.mp4")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"12=C:\masks\12.png", (12, Path(r"C:\masks\12.png"))),
        (r"C:\a=b\12.png", (None, Path(r"C:\a=b\12.png"))),
        (r"\\server\share\12.png", (None, Path(r"\\server\share\12.png"))),
    ],
)
def test_windows_paths_of_masks_are_paths(text: str, expected: tuple[int | None, Path]) -> None:
    frame, source = parse_mask(text)
    assert isinstance(source, FileSource)
    assert (frame, source.path) == expected
