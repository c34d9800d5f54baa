"""The worked examples of CONTRIBUTING.md work."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torchvision
from conftest import MadeClip
from made_datasets import make_davis, shapes

from mgseg.data import catalog
from mgseg.files.masks import write_mask
from mgseg.files.pictures import read_picture
from mgseg.model import trunks
from mgseg.network import Network
from mgseg.outputs.table import Outputs
from mgseg.segment.clip import segment_clip

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text("utf-8")


def run_example(name: str, names: dict[str, Any]) -> dict[str, Any]:
    (code,) = re.findall(rf"^```python {name}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    exec(compile(code, f"CONTRIBUTING.md: {name}", "exec"), names)
    return names


def test_the_output_writes_outlines(clip: MadeClip, tiny_weights: Path, tmp_path: Path) -> None:
    writer = run_example("output", {"__name__": "outlines"})["OutlineWriter"]

    @dataclass(frozen=True)
    class More(Outputs):
        outlines: Annotated[str | Path | None, writer] = None

    write_mask(tmp_path / "first.png", clip.masks[0])
    outputs = More(masks=tmp_path / "masks", outlines=tmp_path / "outlines")
    segment_clip(clip.path, tmp_path / "first.png", outputs, network=Network(tiny_weights, "cpu"))
    pictures = sorted((tmp_path / "outlines").iterdir())
    assert [path.name for path in pictures] == sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert set(np.unique(read_picture(pictures[0]))) == {0, 255}


def test_the_trunk_has_the_parts_of_torchvision_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trunks, "TRUNKS", dict(trunks.TRUNKS))
    spec = run_example("trunk", {**vars(trunks), "replace": replace})["TRUNKS"]["resnet101"]
    built = spec.build(False)
    theirs = torchvision.models.resnet101().state_dict()
    for place, name in (("stage4", "layer1"), ("stage8", "layer2"), ("stage16", "layer3")):
        stage = built.stages[("stage4", "stage8", "stage16").index(place)].state_dict()
        assert spec.torchvision_names[place] == name
        assert {key: tensor.shape for key, tensor in stage.items()} == {
            key.removeprefix(f"{name}."): tensor.shape for key, tensor in theirs.items() if key.startswith(f"{name}.")
        }


def test_the_dataset_is_found_where_people_unpack_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "DATASETS", dict(catalog.DATASETS))
    run_example("dataset", vars(catalog))
    make_davis(tmp_path / "Studio", {"take1": shapes(3)}, year="2024", split="val")
    split = catalog.find_split("studio", "val", tmp_path)
    assert [sequence.name for sequence in split.sequences] == ["take1"]
