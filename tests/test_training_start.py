"""What a run takes where nothing is named: its data, its weights, its folder; ImageNet weights of the trunk."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from training_data import make_davis, make_stills
from typer.testing import CliRunner

from mgseg.cli import app
from mgseg.errors import MgsegError, WeightsError
from mgseg.model.network import PRESETS, ModelConfig, MotionGuidedSTM
from mgseg.training.build import TrainOptions
from mgseg.training.imagenet import imagenet_weights
from mgseg.training.start import build_model, choose_start
from mgseg.weights import load_network, save_weights

SMALL = ("--steps", "1", "--batch", "1", "--size", "32", "--workers", "0", "--device", "cpu")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_davis(tmp_path / "data" / "DAVIS", length=3)
    make_stills(tmp_path / "data" / "static" / "squares")
    make_stills(tmp_path / "data" / "mine")
    monkeypatch.setenv("MGSEG_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def train(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["train", *arguments])


def test_the_three_stages_follow_each_other_by_name_alone(data: Path, tiny_weights: Path) -> None:
    first = train("--stage", "static", "--init", str(tiny_weights), *SMALL)
    assert first.stdout == "runs/static/weights.pth\n", first.output
    assert f"data: 6 stills in {data}, {data / 'static'}" in first.stderr
    for stage, before in (("clips", "static"), ("sequence", "clips")):
        done = train("--stage", stage, *SMALL)
        assert done.stdout == f"runs/{stage}/weights.pth\n", done.output
        assert f"data: davis16 train, 2 videos in {data / 'DAVIS/JPEGImages/480p'}\n" in done.stderr
        assert f"start: runs/{before}/weights.pth, of the stage before\n" in done.stderr
    assert load_network("runs/sequence/weights.pth").config == load_network(tiny_weights).config
    again = train("--stage", "clips", *SMALL)
    assert again.exit_code == 1
    assert "runs/clips already contains a run" in again.stderr
    assert "--resume" in again.stderr
    assert "resumed from runs/clips/checkpoint-00000001.pth" in train("--stage", "clips", "--resume", *SMALL).stderr


@pytest.mark.parametrize(("stage", "words"), [("static", "images/ and masks/"), ("clips", "ImageSets/2017/train.txt")])
def test_where_data_were_looked_for_is_told(stage: str, words: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    missing = train("--stage", stage, "--data", "empty", *SMALL)
    assert missing.exit_code == 1
    assert "to train on were found in empty" in missing.stderr
    assert words in missing.stderr
    assert "nowhere is not a folder" in train("--stage", stage, "--data", "nowhere", *SMALL).stderr
    assert not (tmp_path / "runs").exists()


def test_without_weights_of_the_stage_before_those_that_ship_are_the_start(tmp_path: Path) -> None:
    assert choose_start("static", TrainOptions(tmp_path / "static", model="lite")).weights == "lite"
    start = choose_start("clips", TrainOptions(tmp_path / "clips"))
    assert start.weights == "r50"
    assert str(tmp_path / "static" / "weights.pth") in start.text
    assert choose_start("static", TrainOptions(tmp_path, init="random")).weights is None
    assert choose_start("static", TrainOptions(tmp_path, trunk="imagenet")).weights is None


def test_weights_of_another_network_than_asked_for_are_refused(tmp_path: Path, tiny_weights: Path) -> None:
    options = TrainOptions(tmp_path, model="resnet50", init=str(tiny_weights))
    with pytest.raises(WeightsError, match="its network is lite, --model asks for resnet50"):
        build_model(choose_start("static", options), options, torch.device("cpu"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of torch's, and no network."""

    def refuse(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield tmp_path / "checkpoints"
    torch.hub.set_dir(before)


def tiny(trunk: str) -> ModelConfig:
    return ModelConfig(trunk=trunk, key_dim=4, value_dim=4, decoder_dim=4)


@pytest.mark.parametrize("trunk", sorted(preset.trunk for preset in PRESETS.values()))
def test_without_a_network_the_file_of_imagenet_weights_is_named_and_used_once_it_is_there(
    trunk: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision

    with pytest.raises(WeightsError, match="cannot download https") as caught:
        imagenet_weights(tiny(trunk))
    file = Path(str(caught.value.hint).split()[-1])
    assert file.parent == cache
    file.parent.mkdir(exist_ok=True)
    net = getattr(torchvision.models, trunk)(weights=None)
    torch.save(net.state_dict(), file)
    options = TrainOptions(cache, model="lite" if trunk == "mobilenet_v2" else "resnet50", trunk="imagenet")
    model = build_model(choose_start("static", options), options, torch.device("cpu"))
    stem = net.conv1 if trunk == "resnet50" else net.features[0][0]
    assert torch.equal(next(model.query_encoder.trunk.parameters()), stem.weight)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=file.name) as caught:
        imagenet_weights(tiny(trunk))
    assert "delete it" in str(caught.value.hint)


def test_a_trunk_with_other_strides_than_torchvisions_is_refused() -> None:
    config = ModelConfig(trunk="resnet50", stride_in_1x1=True)
    with pytest.raises(WeightsError, match="3x3 convolutions"):
        imagenet_weights(config)


def test_a_torchvision_of_another_torch_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, *_: Any) -> None:
            if name.startswith("torchvision"):
                raise RuntimeError("operator torchvision::nms does not exist")

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(MgsegError, match="nms does not exist") as caught:
        imagenet_weights(tiny("resnet50"))
    assert "pip install" in str(caught.value.hint)


def test_a_network_for_training_may_be_saved_and_started_from(tmp_path: Path, tiny_model: MotionGuidedSTM) -> None:
    save_weights(tmp_path / "static" / "weights.pth", tiny_model.config, tiny_model.state_dict())
    options = TrainOptions(tmp_path / "clips")
    start = choose_start("clips", options)
    model = build_model(start, options, torch.device("cpu"))
    assert model.config == tiny_model.config
    assert torch.equal(model.decoder.predict.weight, tiny_model.decoder.predict.weight)
