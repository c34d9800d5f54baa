"""`mgseg export` as typed."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ClipMaker, MadeClip
from typer.testing import CliRunner

from mgseg.cli import app
from mgseg.files.masks import write_mask

pytest.importorskip("cv2")
pytest.importorskip("pycocotools")
run = CliRunner().invoke


@pytest.fixture
def masks(tmp_path: Path, clip: MadeClip) -> Path:
    folder = tmp_path / "masks"
    folder.mkdir()
    for number, mask in enumerate(clip.masks):
        write_mask(folder / f"{number:05d}.png", mask)
    return folder


def test_all_formats_at_once_with_the_frames_where_tools_want_them(masks: Path, clip: MadeClip, tmp_path: Path) -> None:
    places = {
        name: tmp_path / "new" / file
        for name, file in (
            ("coco", "a.json"),
            ("coco-polygons", "b.json"),
            ("yolo", "yolo"),
            ("labelme", "labelme"),
            ("cvat", "a.xml"),
            ("boxes", "a.csv"),
        )
    }
    options = [word for name, path in places.items() for word in (f"--{name}", str(path))]
    done = run(app, ["export", str(masks), *options, "--names", "1=square,2=a disc", "--clip", str(clip.path)])
    assert done.exit_code == 0, done.output
    assert done.stdout.split("\n")[:6] == [str(path) for path in places.values()]
    content = json.loads(places["coco"].read_text(encoding="utf-8"))
    assert {item["name"] for item in content["categories"]} == {"square", "a disc"}
    assert len(content["images"]) == len(clip.masks)
    for folder in ("yolo/images/train", "labelme"):
        assert len(list((tmp_path / "new" / folder).glob("*.jpg"))) == len(clip.masks)
    again = run(app, ["export", str(masks), "--coco", str(places["coco"])])
    assert again.exit_code == 1
    assert "--overwrite" in again.output
    assert run(app, ["export", str(masks), "--coco", str(places["coco"]), "--overwrite"]).exit_code == 0


@pytest.mark.parametrize("names", ["car", "0=car", "255=car", "x=car", "1=", "1=a,2"])
def test_names_that_are_not_understood_are_a_usage_error(masks: Path, names: str) -> None:
    done = run(app, ["export", str(masks), "--coco", "a.json", "--names", names])
    assert done.exit_code == 2
    assert "NUMBER=NAME" in done.output


def test_no_format_is_a_usage_error(masks: Path) -> None:
    assert run(app, ["export", str(masks)]).exit_code == 2


def test_a_name_for_an_object_that_is_not_there_is_a_warning(masks: Path, tmp_path: Path) -> None:
    done = run(app, ["export", str(masks), "--boxes", str(tmp_path / "a.csv"), "--names", "7=ghost"])
    assert done.exit_code == 0
    assert "object 7" in done.output


def test_masks_of_two_sizes_are_refused_and_nothing_is_left(masks: Path, tmp_path: Path) -> None:
    write_mask(masks / "00003.png", np.ones((5, 5), np.uint8))
    done = run(app, ["export", str(masks), "--coco", str(tmp_path / "a.json"), "--boxes", str(tmp_path / "a.csv")])
    assert done.exit_code == 1
    assert "5x5" in done.output
    assert not (tmp_path / "a.json").exists()
    assert not list(tmp_path.glob("a.csv*"))


def test_masks_of_another_clip_are_refused(masks: Path, tmp_path: Path, make_clip: ClipMaker) -> None:
    short = make_clip(tmp_path / "short.mp4", 3).path
    done = run(app, ["export", str(masks), "--labelme", str(tmp_path / "l"), "--clip", str(short)])
    assert done.exit_code == 1
    assert "00003.png" in done.output


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run(app, ["export", str(tmp_path / "nowhere"), "--coco", str(tmp_path / "a.json")])
    assert done.exit_code == 1
    assert "nowhere" in done.output


def test_segment_writes_the_same_annotations_as_export(clip: MadeClip, tiny_weights: Path, tmp_path: Path) -> None:
    write_mask(tmp_path / "first.png", clip.masks[2])
    masks, direct, later = tmp_path / "masks", tmp_path / "direct.json", tmp_path / "later.json"
    names = ["--names", "1=square,2=a disc"]
    places = ["--output", str(masks), "--coco", str(direct), "--yolo", str(tmp_path / "y"), "--cvat"]
    command = ["segment", str(clip.path), "--mask", f"2={tmp_path / 'first.png'}", "--both-ways", "--size", "48"]
    command += ["--weights", str(tiny_weights), *places, str(tmp_path / "c.zip"), *names]
    done = run(app, command)
    assert done.exit_code == 0, done.output
    assert run(app, ["export", str(masks), "--coco", str(later), *names]).exit_code == 0
    first, second = (json.loads(path.read_text(encoding="utf-8")) for path in (direct, later))
    assert first["annotations"] == second["annotations"]
    assert len(first["images"]) == len(list((tmp_path / "y" / "images" / "train").glob("*.jpg"))) == len(clip.masks)
    refused = run(app, [*command[:-4], "--cvat", str(tmp_path / "c.json"), "--overwrite"])
    assert refused.exit_code == 1
    assert ".xml or .zip" in refused.output
