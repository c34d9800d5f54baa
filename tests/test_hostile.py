"""Files made to do harm: bombs, absurd sizes, code in pickles, names that lead elsewhere. Damage is in tests/drills."""

import json
import pickle
import resource
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import mgseg.files.decoding
import mgseg.files.pictures
from mgseg.cli import app
from mgseg.data.catalog import find_split
from mgseg.errors import DatasetError, InputError, MgsegError, WeightsError
from mgseg.files.masks import read_index_map, read_mask, write_mask
from mgseg.files.pictures import read_note, read_picture
from mgseg.files.video import probe, read_frames
from mgseg.stm_import import import_stm
from mgseg.weights import load_network


def png(width: int, height: int, deflated: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", deflated) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (65536, 65536), (100_000, 800)])
def test_a_picture_that_claims_an_absurd_size_is_refused_before_memory_is_spent(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    path = tmp_path / "0.png"
    path.write_bytes(png(*size, zlib.compress(b"\0" * 1000)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (read_mask, read_picture, read_index_map, read_note):
        with pytest.raises(MgsegError):
            read(path)
    with pytest.raises(InputError):
        probe(tmp_path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 2**26


def test_a_bomb_that_unfolds_to_more_than_it_claims_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    path.write_bytes(png(8, 8, zlib.compress(b"\0" * 2**27)))  # 128 kB that claim 8x8 and unfold to 128 MB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (read_mask, read_picture, read_index_map, read_note):
        try:
            read(path)
        except MgsegError:
            continue
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 2**26


def test_the_limit_on_sizes_is_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mgseg.files.pictures, "MAX_PIXELS", 48)
    Image.new("L", (8, 6), 1).save(tmp_path / "a.png")
    Image.new("L", (7, 7), 1).save(tmp_path / "b.png")
    assert read_picture(tmp_path / "a.png").shape == (6, 8, 3)
    with pytest.raises(InputError, match="7x7; the limit is 48 pixels"):
        read_picture(tmp_path / "b.png")


@pytest.mark.parametrize("limit", [100_000, 2**26])
def test_a_clip_whose_frames_grow_beyond_the_limit_ends_there(
    make_clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    small, large = (make_clip(tmp_path / f"{side}.h264", size=(side, side * 3 // 2)).path for side in (64, 640))
    joined = tmp_path / "joined.h264"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    monkeypatch.setattr(mgseg.files.decoding, "MAX_PIXELS", limit)
    frames: list[Any] = []

    def read() -> None:
        for frame in read_frames(joined):
            frames.append(frame.image.shape)

    if limit == 2**26:
        read()
        assert frames == [(64, 96, 3)] * 16  # later frames are scaled to the first
    else:
        with pytest.raises(InputError, match="cut or damaged"):
            read()
        assert set(frames) == {(64, 96, 3)}
        assert len(frames) <= 8


class Code:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
def test_code_in_a_weights_file_does_not_run(tmp_path: Path, form: str) -> None:
    trace, path = tmp_path / "it_ran", tmp_path / "w.pth"
    entries = {"format": 1, "config": {}, "state_dict": {"a": torch.zeros(1), "b": Code(trace)}}
    if form == "bare":
        path.write_bytes(pickle.dumps(entries))
    else:
        torch.save(entries, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_network(path)
    with pytest.raises(WeightsError):
        import_stm(path, tmp_path / "new.pth")
    assert not trace.exists()
    torch.load(path, weights_only=False) if form != "bare" else pickle.loads(path.read_bytes())
    assert trace.exists()  # the code would have run


@pytest.mark.parametrize("name", ["../x", "..", "/etc", "a/../../x", "", "a\0b", "..\\x", "\ud800", "x" * 999])
def test_a_name_in_a_dataset_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").mkdir()
    folder = tmp_path / "data" / "valid"
    for kind in ("JPEGImages", "Annotations"):
        (folder / kind / "a").mkdir(parents=True)
    mask = np.ones((8, 8), np.uint8)
    for place in (folder / "Annotations" / "a", tmp_path / "x"):
        write_mask(place / "00000.png", mask)
    (folder / "meta.json").write_text(json.dumps({"videos": {name: {"objects": {"1": {"frames": ["00000"]}}}}}))
    with pytest.raises(DatasetError):
        find_split(str(tmp_path / "data"), "valid", None)
    lists = tmp_path / "davis" / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_bytes(name.encode("utf-8", "surrogatepass") + b"\n")
    with pytest.raises(DatasetError):
        find_split(str(tmp_path / "davis"), "val", None)


ODD_NAMES = ["a b", "-o", "--mask", "[red]x[bold]", "маска 面具", "a\nb", "'; touch x", "%05d", "nul\u200bl", "é" * 60]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_files_and_folders_of_odd_names_work(
    tmp_path: Path, clip: Any, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(f"{name}.mp4").write_bytes(clip.path.read_bytes())
    write_mask(f"{name}.png", clip.masks[0])
    words = ["segment", f"--mask={name}.png", "--end", "2", "--weights", str(tiny_weights), "--device", "cpu"]
    words += [f"--output={name}", f"--overlay={name} overlay.mkv", "--", f"{name}.mp4"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{name}\n{name} overlay.mkv\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [name, f"{name} overlay.mkv", f"{name}.mp4", f"{name}.png"]
    )
    assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["00000.png", "00001.png"]
