"""Scores of given masks: the protocols against worked-out numbers, and every case that must be right or refused."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from made_datasets import make_davis, make_youtube_vos, names_of, shapes, shifted, write_masks
from PIL import Image

from mgseg.data.catalog import find_split
from mgseg.errors import DatasetError, InputError
from mgseg.evaluation.evaluate import evaluate_masks
from mgseg.evaluation.metrics import boundary_accuracy, region_similarity
from mgseg.evaluation.scoring import FramePair, score_frames, score_pairs

FIGURES = ("J", "J_recall", "J_decay", "F", "F_recall", "F_decay")


def evaluate(root, results, *, dataset="davis17", split="val", sequences=None, **options):
    found = find_split(dataset, split, root)
    return evaluate_masks(found.only(sequences) if sequences else found, results, **options)


def dataset(tmp_path, truth, predicted, **options):
    """A DAVIS of one sequence "bear", and results for it."""
    root = make_davis(tmp_path / "data", {"bear": truth}, **options)
    write_masks(tmp_path / "results" / "bear", predicted)
    return root, tmp_path / "results"


def test_davis_2017_scores_equal_those_of_the_official_rules(tmp_path):
    """The numbers come from a plain restatement of the official code with scikit-image and OpenCV."""
    truth = {"bear": shapes(9), "cow": shapes(7, ids=(1,))}
    root = make_davis(tmp_path / "data", truth)
    for name, masks in truth.items():
        predicted = shifted(masks)
        predicted[5:][predicted[5:] == 2] = 0
        write_masks(tmp_path / "results" / name, predicted)
    report = evaluate(root, tmp_path / "results")
    bear1 = [0.6836158192090397, 1.0, 0.0, 0.6, 1.0, 0.0]
    bear2 = [0.37122002085505734, 0.5714285714285714, 0.6496350364963503]
    bear2 += [0.3516483516483517, 0.5714285714285714, 0.6153846153846154]
    overall = [0.5794838864243789, 0.8571428571428571, 0.21654501216545008]
    overall += [0.5172161172161172, 0.8571428571428571, 0.20512820512820515]
    for found, expected in zip(report.objects, (bear1, bear2, bear1), strict=True):
        assert [found.figures[name] for name in FIGURES] == pytest.approx(expected, abs=1e-12)
    assert [report.mean[name] for name in FIGURES] == pytest.approx(overall, abs=1e-12)
    assert report.mean["J&F"] == pytest.approx((overall[0] + overall[3]) / 2, abs=1e-12)
    mean_of_bear = (np.array(bear1) + bear2) / 2
    assert [report.sequences["bear"][name] for name in FIGURES] == pytest.approx(mean_of_bear, abs=1e-12)
    assert report.objects[0].frames == tuple(names_of(truth["bear"])[1:-1])


def test_the_first_and_last_frames_need_no_masks_and_do_not_count(tmp_path):
    truth = shapes(6)
    root, results = dataset(tmp_path, truth, truth)
    (results / "bear" / "00000.png").unlink()
    write_masks(results / "bear", np.zeros_like(truth[-1:]), ["00005"])
    assert evaluate(root, results).mean["J&F"] == 1.0


def test_davis_2016_takes_any_positive_value_as_the_object_on_both_sides(tmp_path):
    truth = shapes(6)
    predicted = shifted(truth)
    root, results = dataset(tmp_path, truth, np.where(predicted > 0, 255, 0).astype(np.uint8), year="2016")
    report = evaluate(root, results, dataset="davis16")
    expected = [region_similarity(predicted[t] > 0, truth[t] > 0) for t in range(1, 5)]
    assert report.objects[0].j.tolist() == expected
    assert len(report.objects) == 1


def test_ids_with_gaps_are_the_objects_that_there_are(tmp_path):
    truth = shapes(6, ids=(3, 200))
    root, results = dataset(tmp_path, truth, shifted(truth))
    report = evaluate(root, results)
    assert [score.object_id for score in report.objects] == [3, 200]
    assert report.mean["J"] < 1  # objects 1, 2, 4 and so on, absent on both sides, would raise it


def test_an_object_that_is_never_found_scores_nothing(tmp_path):
    truth = shapes(6)
    root, results = dataset(tmp_path, truth, np.where(truth == 1, truth, 0))
    one, two = evaluate(root, results).objects
    assert (one.figures["J&F"], two.figures["J"], two.figures["F"]) == (1.0, 0.0, 0.0)


def test_an_object_that_appears_late_counts_after_the_frame_it_is_given_in(tmp_path):
    truth = shapes(8)
    truth[:4][truth[:4] == 2] = 0
    predicted = truth.copy()
    predicted[5][predicted[5] == 2] = 0
    root, results = dataset(tmp_path, truth, predicted)
    late = evaluate(root, results).objects[1]
    assert late.frames == ("00005", "00006")
    assert late.j.tolist() == [0.0, 1.0]


def test_an_object_that_first_appears_in_the_last_scored_frame_is_left_out_with_a_note(tmp_path):
    truth = shapes(6)
    truth[:4][truth[:4] == 2] = 0
    root, results = dataset(tmp_path, truth, truth)
    report = evaluate(root, results)
    assert [score.object_id for score in report.objects] == [1]
    assert "bear, object 2: not scored" in report.notes[0]


def test_an_object_that_is_gone_in_all_scored_frames_is_noted(tmp_path):
    truth = shapes(6)
    truth[1:][truth[1:] == 2] = 0
    predicted = truth.copy()
    root, results = dataset(tmp_path, truth, predicted)
    report = evaluate(root, results)
    assert report.objects[1].figures["J&F"] == 1.0
    assert "bear, object 2: absent from all scored frames" in report.notes[0]
    predicted[2][:3, :3] = 2
    write_masks(results / "bear", predicted)
    assert evaluate(root, results).objects[1].j.tolist() == [1.0, 0.0, 1.0, 1.0]


def test_void_counts_neither_for_nor_against(tmp_path):
    truth = shapes(6)
    predicted = shifted(truth)
    void = np.zeros_like(truth, dtype=bool)
    void[:, :, 20:30] = True
    marked = np.where(void, 255, truth).astype(np.uint8)
    root, results = dataset(tmp_path, marked, predicted)
    report = evaluate(root, results)
    assert [score.object_id for score in report.objects] == [1, 2]
    for score in report.objects:
        sides = [(predicted[t] == score.object_id, marked[t] == score.object_id, void[t]) for t in range(1, 5)]
        assert score.j.tolist() == [region_similarity(*side) for side in sides]
        assert score.f.tolist() == [boundary_accuracy(*side) for side in sides]
    write_masks(results / "bear", np.where(void, 1, predicted).astype(np.uint8))
    assert evaluate(root, results).objects[0].j.tolist() == report.objects[0].j.tolist()


def test_decay_is_right_beyond_256_frames(tmp_path):
    truth = np.zeros((402, 8, 8), np.uint8)
    truth[:, 2:6, 2:6] = 1
    predicted = truth.copy()
    predicted[101:] = 0
    root, results = dataset(tmp_path, truth, predicted, pictures=False)
    assert evaluate(root, results).mean["J_decay"] == pytest.approx(1.0, abs=0.01)


def test_several_processes_score_as_one(tmp_path):
    truth = shapes(70)
    root, results = dataset(tmp_path, truth, shifted(truth), pictures=False)
    paths = sorted((root / "Annotations/480p/bear").iterdir())
    pairs = [FramePair(path, results / "bear" / path.name) for path in paths]
    calls = []
    scores = score_frames(pairs, single_object=False, workers=2, progress=lambda *call: calls.append(call))
    assert scores == score_pairs(pairs, single_object=False)
    assert calls[-1] == (70, 70)


def break_missing_frame(results: Path) -> str:
    (results / "bear" / "00002.png").unlink()
    return r"missing masks: .*bear/00002\.png"


def break_missing_sequence(results: Path) -> str:
    (results / "bear").rename(results / "wolf")
    return "missing sequences: .*bear"


def break_extra_id(results: Path) -> str:
    mask = np.asarray(Image.open(results / "bear" / "00003.png")).copy()
    mask[0, 0] = 9
    write_masks(results / "bear", mask[None], ["00003"])
    return r"00003\.png holds id 9; the sequence has objects 1, 2"


def break_zero_255(results: Path) -> str:
    mask = np.asarray(Image.open(results / "bear" / "00001.png"))
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(results / "bear" / "00001.png")
    return r"00001\.png holds id 255"


def break_colours(results: Path) -> str:
    Image.open(results / "bear" / "00002.png").convert("RGB").save(results / "bear" / "00002.png")
    return r"00002\.png is a picture in colour \(mode RGB\)"


def break_16_bits(results: Path) -> str:
    Image.fromarray(np.full((40, 60), 300, np.uint16)).save(results / "bear" / "00002.png")
    return r"00002\.png has more than 8 bits"


def break_size(results: Path) -> str:
    write_masks(results / "bear", np.ones((1, 40, 61), np.uint8), ["00002"])
    return r"00002\.png is 61x40, its ground truth is 60x40"


def break_file(results: Path) -> str:
    path = results / "bear" / "00002.png"
    path.write_bytes(path.read_bytes()[:60])
    return r"cannot read the mask .*00002\.png"


@pytest.mark.parametrize(
    "damage",
    [
        break_missing_frame,
        break_missing_sequence,
        break_extra_id,
        break_zero_255,
        break_colours,
        break_16_bits,
        break_size,
        break_file,
    ],
)
def test_results_that_cannot_be_scored_rightly_are_refused_by_name(tmp_path, damage):
    truth = shapes(6)
    root, results = dataset(tmp_path, truth, truth)
    with pytest.raises(InputError, match=damage(results)):
        evaluate(root, results)


def test_ground_truth_that_cannot_be_scored_rightly_is_refused_by_name(tmp_path):
    truth = shapes(6)
    root, results = dataset(tmp_path, truth, truth)
    (root / "Annotations/480p/bear/00002.png").unlink()
    with pytest.raises(DatasetError, match="bear lacks 00002"):
        evaluate(root, results)
    root, results = dataset(tmp_path / "no objects", np.where(truth, 255, 0).astype(np.uint8), truth)
    with pytest.raises(DatasetError, match="bear contains no object") as caught:
        evaluate(root, results)
    assert "0/255" in caught.value.hint
    root, results = dataset(tmp_path / "short", truth[:2], truth[:2])
    with pytest.raises(DatasetError, match="bear has no frame to score"):
        evaluate(root, results)


def test_nothing_is_scored_where_there_is_no_truth(tmp_path):
    truth = shapes(4)
    root, results = dataset(tmp_path, truth, truth)
    for index in range(1, 4):
        (root / f"Annotations/480p/bear/0000{index}.png").unlink()
    report = evaluate(root, results)
    assert (report.objects, report.mean, report.sequences) == ((), {}, {})


def test_youtube_vos_scores_by_group_after_the_given_frame_and_to_the_last(tmp_path):
    late = shapes(5)
    late[:2][late[:2] == 2] = 0
    videos = {"a": late, "b": shapes(4, ids=(1,)), "c": shapes(3)}
    categories = {"a": {1: "cat", 2: "owl"}, "b": {1: "owl"}, "c": {1: "cat", 2: "dog"}}
    root = make_youtube_vos(tmp_path / "yt", "train", videos, categories)
    for name in "ab":
        predicted = shifted(videos[name])
        write_masks(tmp_path / "results" / name, predicted, names_of(predicted, 5))
    report = evaluate(root, tmp_path / "results", dataset="youtube-vos-2019", split="train", sequences=["a", "b"])
    a1, a2, b1 = report.objects
    assert (a1.group, a2.group, b1.group) == ("seen", "unseen", "unseen")
    assert a1.frames == ("00005", "00010", "00015", "00020")
    assert a2.frames == ("00015", "00020")
    mean = report.mean
    assert mean["J_seen"] == a1.figures["J"]
    assert mean["F_unseen"] == (a2.figures["F"] + b1.figures["F"]) / 2
    parts = [mean[name] for name in ("J_seen", "J_unseen", "F_seen", "F_unseen")]
    assert mean["overall"] == pytest.approx(np.mean(parts), abs=1e-15)


def test_youtube_vos_without_training_categories_has_no_groups(tmp_path):
    root = make_youtube_vos(tmp_path / "yt", "valid", {"a": shapes(4)})
    write_masks(tmp_path / "results" / "a", shapes(4), names_of(shapes(4), 5))
    report = evaluate(root, tmp_path / "results", dataset="youtube-vos-2018", split="valid")
    assert report.mean["J&F"] == 1.0
    assert "overall" not in report.mean


def test_json_and_csv_hold_every_figure_and_setting(tmp_path):
    truth = shapes(6)
    root, results = dataset(tmp_path, truth, shifted(truth))
    report = evaluate(root, results)
    found = json.loads(report.to_json())
    assert found["mean"] == report.mean
    assert found["sequences"]["bear"] == report.sequences["bear"]
    assert found["objects"][1]["J_by_frame"] == report.objects[1].j.tolist()
    assert (found["settings"]["dataset"], found["settings"]["masks"]) == ("davis17", None)
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert [row["level"] for row in rows] == ["all", "sequence", "object", "object"]
    assert float(rows[3]["J&F"]) == report.objects[1].figures["J&F"]
    assert {row["protocol"] for row in rows} == {found["settings"]["protocol"]}


@pytest.mark.data
def test_the_published_masks_of_stm_have_their_published_scores():
    data = Path(os.environ["MGSEG_DATA"])
    expected = json.loads((data / "stm_results" / "stm_davis16_val_scores.json").read_text())
    split = find_split("davis16", "val", data)
    report = evaluate_masks(split, data / "stm_results" / "STM_DAVIS_16val", workers=os.cpu_count() or 1)
    assert report.mean["J"] == pytest.approx(0.8867295276410051, abs=1e-9)
    assert report.mean["F"] == pytest.approx(0.8986342774580025, abs=1e-9)
    keys = dict(zip(FIGURES, ("J_mean", "J_recall", "J_decay", "F_mean", "F_recall", "F_decay"), strict=True))
    assert report.sequences.keys() == expected["sequences"].keys()
    for name, figures in expected["sequences"].items():
        for ours, theirs in keys.items():
            assert report.sequences[name][ours] == pytest.approx(figures[theirs], abs=1e-9), (name, theirs)
