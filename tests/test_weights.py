"""Checkpoint files: what is written is read, what is not ours is named, pickled code never runs."""

import json
import pickle
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from stm_restatement import STM

from mgseg import weights
from mgseg.cli.options import Precision, find_network
from mgseg.errors import OutputError, WeightsError
from mgseg.model.network import ModelConfig, MotionGuidedSTM
from mgseg.model.trunks import TRUNKS
from mgseg.network import Network
from mgseg.segment.segmenter import Segmenter, SegmenterOptions
from mgseg.stm_import import import_stm

CONFIG = ModelConfig(trunk="mobilenet_v2", key_dim=8, value_dim=12, decoder_dim=6)


@pytest.fixture
def model() -> MotionGuidedSTM:
    torch.manual_seed(0)
    return MotionGuidedSTM(CONFIG).eval()


@pytest.fixture
def file(model, tmp_path) -> Path:
    weights.save_weights(tmp_path / "model.pth", CONFIG, model.state_dict())
    return tmp_path / "model.pth"


def release(folder: Path, monkeypatch, **scores: float) -> None:
    """Make `folder` the folder of released weights."""
    entries = [
        {"name": n, "file": f"{n}.pth", "sha256": weights.sha256_of(folder / f"{n}.pth"), "scores": {"val": score}}
        for n, score in scores.items()
    ]
    (folder / "released.json").write_text(json.dumps(entries))
    monkeypatch.setattr(weights, "weights_folder", lambda: folder)


def same(a: MotionGuidedSTM, b: MotionGuidedSTM) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_checkpoint_rebuilds_its_own_model(model, file):
    loaded = weights.load_network(file)
    assert loaded.config == CONFIG
    assert not loaded.training
    assert same(loaded, model)
    assert [p.name for p in file.parent.iterdir()] == ["model.pth"]


def test_export_is_half_the_size_without_training_state(model, tmp_path):
    source, target = tmp_path / "run.pth", tmp_path / "out.pth"
    weights.save_weights(source, CONFIG, model.state_dict(), extra={"training": {"step": 3}, "scale": [0.5, 2]})
    weights.export_weights(source, target)
    entries = weights.read_checkpoint(target)
    assert entries.keys() == {"format", "config", "state_dict", "scale"}
    floats = [t for t in entries["state_dict"].values() if t.is_floating_point()]
    assert {t.dtype for t in floats} == {torch.float16}
    loaded = weights.load_network(target)
    for mine, theirs in zip(loaded.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6)
    assert next(loaded.parameters()).dtype == torch.float32


def test_released_names_are_found_and_their_hash_is_checked(model, file, monkeypatch):
    release(file.parent, monkeypatch, model=60.0)
    assert weights.find_weights("model") == file
    assert same(weights.load_network("model"), model)
    assert Network("auto", "cpu").config == CONFIG
    with file.open("ab") as f:
        f.write(b"x")
    with pytest.raises(WeightsError, match="not the released file"):
        weights.find_weights("model")
    file.unlink()
    with pytest.raises(WeightsError, match="no such file"):
        weights.find_weights("model")


def test_auto_is_the_best_on_a_gpu_and_the_lightest_on_a_cpu(file, monkeypatch):
    for name in ("large", "middle"):
        (file.parent / f"{name}.pth").write_bytes(b"")
    release(file.parent, monkeypatch, large=70.0, middle=80.0, model=60.0)
    assert (weights.choose_weights("cuda"), weights.choose_weights("cpu")) == ("middle", "model")


def test_the_command_line_says_which_weights_auto_stands_for(file, monkeypatch, capsys):
    release(file.parent, monkeypatch, model=60.0)
    assert find_network("auto", "cpu", Precision.auto).path == file
    assert "weights: model, for cpu" in capsys.readouterr().err
    assert find_network(str(file), "cpu", Precision.auto).path == file
    assert not capsys.readouterr().err


def test_auto_without_released_weights_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "weights_folder", lambda: tmp_path)
    with pytest.raises(WeightsError, match="no released weights"):
        Network()


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_code_never_runs(tmp_path):
    for name, write in (("zip", torch.save), ("raw", lambda x, p: p.write_bytes(pickle.dumps(x)))):
        write({"format": 1, "config": {}, "state_dict": Bomb(tmp_path / "ran")}, tmp_path / name)
        with pytest.raises(WeightsError, match="cannot be read as weights"):
            Segmenter(Network(tmp_path / name, "cpu"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("size", [0, 10, 3000])
def test_truncated_files_are_named(file, size):
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        Segmenter(Network(file, "cpu"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "format 1"),
        ({"config": {"trunk": "vgg"}}, "unknown trunk"),
        ({"config": {"colour": 1}}, "colour"),
        ({"config": asdict(CONFIG) | {"key_dim": 9}}, "key"),
        ({"config": 5}, "does not fit"),
        ({"state_dict": [1]}, "does not fit"),
    ],
)
def test_other_architectures_and_formats_are_refused(file, change, says):
    torch.save(torch.load(file, weights_only=True) | change, file)
    with pytest.raises(WeightsError, match=says):
        Segmenter(Network(file, "cpu"))


def test_no_such_weights_names_the_released_ones(file, monkeypatch):
    release(file.parent, monkeypatch, model=60.0)
    with pytest.raises(WeightsError, match="nowhere") as error:
        weights.find_weights("nowhere")
    assert "model" in (error.value.hint or "")


def test_a_target_that_cannot_be_written_leaves_nothing(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        weights.save_weights(tmp_path / "file" / "x.pth", CONFIG, model.state_dict())
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_imported_stm_gives_stm_s_own_masks(tmp_path):
    torch.manual_seed(2)
    stm = STM().eval()
    torch.save({f"module.{k}": v for k, v in stm.state_dict().items()}, tmp_path / "STM_weights.pth")
    import_stm(tmp_path / "STM_weights.pth", tmp_path / "stm.pth")
    network = Network(tmp_path / "stm.pth", "cpu")
    assert network.config == ModelConfig(motion_prior=False, stride_in_1x1=False)

    coarse = np.random.default_rng(0).integers(0, 256, (7, 5, 6, 3), dtype=np.uint8)
    frames = [np.kron(c, np.ones((10, 10, 1), dtype=np.uint8)) for c in coarse]  # 50 x 60: needs padding
    mask = np.zeros((50, 60), dtype=np.uint8)
    mask[5:30, 4:25], mask[20:45, 33:57] = 1, 2
    images = [torch.from_numpy(f).permute(2, 0, 1).unsqueeze(0).float() / 255 for f in frames]
    with torch.inference_mode():
        theirs = stm.run(images, torch.stack([torch.from_numpy(mask == i).float() for i in (1, 2)]), memory_every=2)
    segmenter = Segmenter(network, SegmenterOptions(memory_every=2, memory_size=0))
    segmenter.start(frames[0], mask)
    for frame, prob in zip(frames[1:], theirs, strict=True):
        ours = segmenter.step(frame)
        np.testing.assert_allclose(segmenter.probabilities, prob.numpy(), rtol=0, atol=1e-4)
        best = prob.topk(2, dim=0).values
        clear = (best[0] - best[1] > 1e-4).numpy()
        assert (ours == prob.argmax(0).numpy())[clear].all()
        assert set(np.unique(ours)) == {0, 1, 2}


def test_a_checkpoint_that_is_not_stm_s_is_not_imported(file, tmp_path):
    torch.save({"module.Encoder_X.conv": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="unknown name"):
        import_stm(tmp_path / "other.pth", tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("trunk", TRUNKS)
def test_imagenet_trunks_load_under_torchvision_s_names_and_are_torchvision_s_to_the_bit(trunk):
    from torchvision.models import get_model, get_weight
    from torchvision.models.feature_extraction import create_feature_extractor

    spec = TRUNKS[trunk]
    assert get_weight(spec.imagenet_weights).meta["categories"]  # there are such weights
    net = get_model(spec.imagenet_weights.partition("_Weights")[0], weights=None).eval()
    model = MotionGuidedSTM(ModelConfig(trunk=trunk, key_dim=4, value_dim=4, decoder_dim=4)).eval()
    weights.load_trunk(model, net.state_dict(), "imagenet.pth")
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        ours = model.query_encoder(image).feat16
        theirs = create_feature_extractor(net, {list(spec.torchvision_names.values())[-1]: "feat16"})(image)
    assert torch.equal(ours, theirs["feat16"])
    with pytest.raises(WeightsError, match="does not fit") as caught:
        weights.load_trunk(model, {"conv1.weight": torch.zeros(3)}, "wrong.pth")
    assert spec.imagenet_weights in caught.value.hint
