"""Confidence: what is measured of a mask, the logistic model, and the Segmenter's predicted J."""

import numpy as np
import pytest
import torch

from mgseg.errors import WeightsError
from mgseg.model.confidence import FEATURES, ConfidenceModel, join_features, measure_match, measure_shape
from mgseg.model.memory import LabelledMemory, MemoryBank
from mgseg.model.network import ModelConfig, MotionGuidedSTM
from mgseg.network import Network
from mgseg.segment.confidence import confidence_model
from mgseg.segment.segmenter import Segmenter, SegmenterOptions
from mgseg.weights import save_weights

pytestmark = pytest.mark.numeric

ONE = dict.fromkeys(FEATURES, 1.0)
MODEL = ConfidenceModel(dict.fromkeys(FEATURES, 0.0), ONE, ONE, bias=0.5, empty=0.25, fitted_on="made up")


def disc(size: int = 40, radius: float = 9, blur: float = 0.3, centre: tuple[float, float] = (20, 20)) -> torch.Tensor:
    """A soft disc, float (size, size)."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    distance = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2).float().sqrt()
    return torch.sigmoid((radius - distance) / blur)


def test_parts_and_holes_are_counted():
    ring = disc() * (1 - disc(radius=4))
    two = torch.maximum(disc(radius=4, centre=(8, 8)), disc(radius=4, centre=(30, 30)))
    five = torch.zeros(40, 40)
    for i in range(5):
        five[8 * i : 8 * i + 3, 5:9] = 1
    parts = measure_shape(torch.stack([disc(), two, five, ring])).parts
    assert parts.tolist() == [1, 2, 5, 1]  # parts less holes, one at least


def test_shape_of_an_unsure_mask_is_told_from_a_sure_one():
    sure, unsure = disc(blur=0.3), disc(blur=4)
    shape = measure_shape(torch.stack([sure, unsure]))
    assert shape.soft_iou[0] > shape.soft_iou[1] + 0.1
    assert shape.margin[0] > shape.margin[1]
    assert shape.outside[0] < shape.outside[1]
    assert shape.area[0] == (sure > 0.5).sum()


@pytest.fixture
def matched() -> tuple[torch.Tensor, LabelledMemory]:
    """The key of a 12x12 frame in which every cell is unlike the others, and a memory of the frame itself."""
    generator = torch.Generator().manual_seed(0)
    key = 12 * torch.nn.functional.normalize(torch.randn(16, 12, 12, generator=generator), dim=0)
    label = torch.zeros(12, 12)
    label[3:8, 3:8] = 1
    return key, LabelledMemory(key.flatten(1), label.flatten(), torch.ones(144), slice(0, 144))


def test_a_mask_like_the_one_in_memory_matches_it_and_another_does_not(matched):
    key, memory = matched
    right = memory.labels.view(12, 12)
    moved = right.roll(4, 1)
    label, given_label, neighbours, given_share, found_again = measure_match(right, key, memory).tolist()
    assert min(label, given_label, given_share, found_again) > 0.99
    assert neighbours < 0.01
    label, given_label, neighbours, _, found_again = measure_match(moved, key, memory).tolist()
    assert max(label, given_label, found_again) < 0.5
    assert neighbours > 0.2


def test_every_feature_of_a_right_mask_is_at_least_that_of_a_wrong_one(matched):
    key, memory = matched
    coarse = memory.labels.view(12, 12)
    given = measure_shape(disc().unsqueeze(0))
    right = measure_shape(disc(blur=0.4).unsqueeze(0))
    holes = (torch.arange(40) % 7 > 2).float()
    wrong = measure_shape((disc(radius=7, blur=2) * holes).unsqueeze(0))
    good = join_features(right, given, measure_match(coarse, key, memory).unsqueeze(0))
    bad = join_features(wrong, given, measure_match(coarse.roll(4, 1), key, memory).unsqueeze(0))
    assert good.shape == (1, len(FEATURES))
    assert (good >= bad - 1e-4).all()
    assert good.isfinite().all()
    assert bad.isfinite().all()


def test_the_model_is_a_logistic_function_and_knows_empty_masks():
    features = torch.tensor([[0.1] * len(FEATURES), [0.3] * len(FEATURES)])
    predicted = MODEL.predict(features, torch.tensor([50.0, 0.0]))
    assert predicted[0].item() == pytest.approx(1 / (1 + np.exp(-(0.5 + 0.1 * len(FEATURES)))))
    assert predicted[1].item() == 0.25


def test_a_model_of_other_features_is_refused():
    with pytest.raises(ValueError, match="expected soft_iou, margin"):
        ConfidenceModel({}, ONE, ONE, 0.0, 0.5, "")


def test_labels_follow_their_frames_through_the_slots_of_the_memory():
    bank = MemoryBank(memory_every=2, memory_size=2)
    for t in range(20):
        full = torch.full((3, 4), float(t))
        bank.add(t, full.expand(1, 2, 3, 4), full.expand(1, 5, 3, 4), given=t in (0, 7), label=full / 100)
    memory = bank.labelled_views()
    assert torch.allclose(memory.keys[0] / 100, memory.labels)
    given = memory.given > 0
    assert set(memory.labels[given].mul(100).round().int().tolist()) == {0, 7}
    assert set(memory.labels[memory.newest_given].mul(100).round().int().tolist()) == {7}


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(1)
    return Network.from_model(
        MotionGuidedSTM(ModelConfig(trunk="mobilenet_v2", key_dim=8, value_dim=12, decoder_dim=6))
    )


def frames_and_mask() -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(5)]
    mask = np.zeros((48, 64), np.uint8)
    mask[8:30, 4:30], mask[20:44, 36:60] = 7, 3
    return frames, mask


@pytest.mark.parametrize("flip", [False, True])
def test_confidence_changes_no_mask(network, flip):
    frames, mask = frames_and_mask()
    results = []
    for model in (None, MODEL):
        segmenter = Segmenter(network, SegmenterOptions(flip=flip), model)
        results.append([segmenter.start(frames[0], mask), *(segmenter.step(frame) for frame in frames[1:])])
        assert (segmenter.confidence is None) == (model is None)
    assert all((a == b).all() for a, b in zip(*results, strict=True))


def test_the_model_comes_from_the_weights_file(network, tmp_path):
    model = network.model
    save_weights(tmp_path / "with.pth", model.config, model.state_dict(), extra={"confidence": MODEL.to_dict()})
    save_weights(tmp_path / "without.pth", model.config, model.state_dict())
    save_weights(tmp_path / "odd.pth", model.config, model.state_dict(), extra={"confidence": {"bias": 1.0}})
    assert confidence_model(Network(tmp_path / "with.pth", "cpu")) == MODEL
    assert confidence_model(Network(tmp_path / "without.pth", "cpu")) is None
    with pytest.raises(WeightsError, match="of another form"):
        Segmenter(Network(tmp_path / "odd.pth", "cpu"))


def test_confidence_is_1_where_a_mask_was_given_and_in_0_to_1_elsewhere(network):
    frames, mask = frames_and_mask()
    segmenter = Segmenter(network, SegmenterOptions(objects_at_once=1), MODEL)
    segmenter.start(frames[0], np.where(mask == 7, mask, 0).astype(np.uint8))
    assert segmenter.confidence == {7: 1.0}
    segmenter.step(frames[1], np.where(mask == 3, mask, 0).astype(np.uint8))
    assert list(segmenter.confidence) == [7, 3]
    assert segmenter.confidence[3] == 1.0
    assert 0 <= segmenter.confidence[7] < 1
    segmenter.step(frames[2])
    assert all(0 <= value < 1 for value in segmenter.confidence.values())
    segmenter.recall(frames[3], mask)
    assert segmenter.confidence == {}  # nothing was predicted
    segmenter.step(frames[4])
    segmenter.remove([7])
    assert list(segmenter.confidence) == [3]
