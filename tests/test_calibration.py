"""Figures of confidence, fitting a confidence model, and how an evaluation shows what it is worth."""

import json

import numpy as np
import pytest
import torch
from made_datasets import make_davis, shapes, shifted
from typer.testing import CliRunner

from mgseg.cli import app
from mgseg.data.catalog import find_split
from mgseg.evaluation.calibration import PENALTY, Track, calibrate, cross_validate, fit
from mgseg.evaluation.confidence import area_change, confidence_figures, random_figures
from mgseg.evaluation.evaluate import evaluate_masks, evaluate_split
from mgseg.files.masks import read_confidence, write_mask
from mgseg.model.confidence import FEATURES, ConfidenceModel
from mgseg.network import Network
from mgseg.segment.confidence import confidence_model
from mgseg.segment.options import SegmenterOptions

ONE = dict.fromkeys(FEATURES, 1.0)
MODEL = ConfidenceModel(dict.fromkeys(FEATURES, 0.0), ONE, ONE, bias=0.5, empty=0.25, fitted_on="made up")


def test_figures_equal_their_definitions():
    rng = np.random.default_rng(0)
    true = [rng.random(30), rng.random(20)]
    predicted = [np.round(j + rng.normal(0, 0.3, len(j)), 1) for j in true]  # rounded: there are ties
    found = confidence_figures(predicted, true)
    p, j = np.concatenate(predicted), np.concatenate(true)
    pairs = [(a > b) + 0.5 * (a == b) for a in p[j >= 0.5] for b in p[j < 0.5]]
    assert found.auroc == pytest.approx(np.mean(pairs))
    ranks = [np.array([np.sum(x < v) + (np.sum(x == v) - 1) / 2 for v in x]) for x in (p, j)]
    assert found.spearman == pytest.approx(np.corrcoef(*ranks)[0, 1])
    regrets = [b[np.argmin(a)] - b.min() for a, b in zip(predicted, true, strict=True)]
    assert found.regret == pytest.approx(np.mean(regrets))
    assert confidence_figures(true, true) == pytest.approx((1, 1, 0))
    assert random_figures(true).regret == pytest.approx(np.mean([x.mean() - x.min() for x in true]))
    assert np.isnan(confidence_figures([np.ones(3)], [np.ones(3)]).auroc)


def test_change_of_area_sees_growth_and_loss_alike():
    change = area_change(np.array([99.0, 99, 199, 99]))
    assert change.tolist() == pytest.approx([0, 0, -np.log(2), -np.log(2)])


def made_tracks(num_sequences: int = 20) -> list[Track]:
    """J follows the first feature; the second one lies; the others are noise."""
    rng = np.random.default_rng(0)
    tracks = []
    for number in range(num_sequences):
        features = rng.normal(size=(30, len(FEATURES)))
        j = 1 / (1 + np.exp(-2 * features[:, 0]))
        features[:, 1] = -features[:, 0]
        tracks.append(Track(f"s{number}", list(features), [9.0] * 29 + [0.0], list(j)))
    return tracks


def test_a_fit_finds_what_matters_and_never_trusts_a_feature_the_wrong_way_round():
    tracks = made_tracks()
    model = fit(tracks, "made tracks")
    assert all(weight >= 0 for weight in model.weight.values())
    assert model.weight[FEATURES[0]] > 3 * max(model.weight[name] for name in FEATURES[1:])
    assert model.weight[FEATURES[1]] == 0
    assert model.empty == pytest.approx(np.mean([track.j[-1] for track in tracks]))
    figures = cross_validate(tracks)
    assert figures.spearman > 0.8
    assert PENALTY > 0


@pytest.fixture
def davis(tmp_path):
    """Ten short clips of discs."""
    return make_davis(
        tmp_path / "data",
        {f"clip{i}": shifted(shapes(8, ids=(1,)), i + 1) for i in range(10)},
        year="2016",
        split="train",
    )


def test_calibrated_weights_hold_a_model_and_the_same_network(davis, tiny_weights, tmp_path):
    done = CliRunner().invoke(
        app, ["weights", "calibrate", str(tiny_weights), "-o", str(tmp_path / "new.pth"), "--data", str(davis)]
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "new.pth")
    assert "sequences that were left out" in done.stderr
    old, new = (Network(path, "cpu", "float32") for path in (tiny_weights, tmp_path / "new.pth"))
    model = confidence_model(new)
    assert model is not None
    assert model.fitted_on == "davis16 train, 10 sequences"
    assert confidence_model(old) is None
    states = [network.model.state_dict() for network in (old, new)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_too_few_sequences_are_refused(davis, tiny_weights, tmp_path):
    split = find_split("davis16", "train", davis).only(["clip0", "clip1"])
    with pytest.raises(Exception, match="has 2 sequences; at least 10 are needed"):
        calibrate(tiny_weights, tmp_path / "new.pth", split)
    assert not (tmp_path / "new.pth").exists()


def test_an_evaluation_says_how_good_the_confidence_is(davis, tiny_weights, tiny_model, tmp_path):
    from mgseg.weights import save_weights

    path = tmp_path / "with.pth"
    save_weights(path, tiny_model.config, tiny_model.state_dict(), extra={"confidence": MODEL.to_dict()})
    split = find_split("davis16", "train", davis).only(["clip0", "clip1"])
    report = evaluate_split(split, Network(path, "cpu"), SegmenterOptions(size=32))
    assert list(report.confidence) == ["predicted J", "area change", "random"]
    assert report.confidence["random"].auroc == 0.5
    found = json.loads(report.to_json())
    assert found["confidence"]["predicted J"]["regret"] == report.confidence["predicted J"].regret
    assert len(found["objects"][0]["predicted_J_by_frame"]) == len(found["objects"][0]["J_by_frame"])
    without = evaluate_split(split, Network(tiny_weights, "cpu"), SegmenterOptions(size=32))
    assert without.mean == report.mean
    assert without.confidence == {}
    assert "confidence" not in json.loads(without.to_json())


def test_a_mask_carries_its_confidence(tmp_path):
    mask = shapes(1)[0]
    write_mask(tmp_path / "a.png", mask, None, "how", {1: 0.25, 2: 1.0})
    write_mask(tmp_path / "b.png", mask, None, "how")
    assert read_confidence(tmp_path / "a.png") == {1: 0.25, 2: 1.0}
    assert read_confidence(tmp_path / "b.png") is None
    report_split = make_davis(tmp_path / "data", {"bear": shapes(5)})
    split = find_split("davis17", "val", report_split)
    for number, truth in enumerate(shapes(5)):
        place = tmp_path / "results" / "bear" / f"{number:05d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        write_mask(place, truth, confidence={1: 0.5} if number < 3 else {1: 0.5, 2: 0.75})
    objects = evaluate_masks(split, tmp_path / "results").objects
    assert objects[0].confidence is not None
    assert objects[1].confidence is None  # not known of every frame
