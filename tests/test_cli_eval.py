"""`mgseg eval` as one calls it: what goes to stdout, exit codes, defaults, several processes."""

import csv
import io
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from made_datasets import make_davis, make_youtube_vos, names_of, shapes, shifted, write_masks
from typer.testing import CliRunner

from mgseg.cli import app


@pytest.fixture
def davis(tmp_path, monkeypatch):
    root = make_davis(tmp_path / "data", {"bear": shapes(5), "cow": shapes(4, ids=(1,))})
    for name, masks in {"bear": shapes(5), "cow": shapes(4, ids=(1,))}.items():
        write_masks(tmp_path / "results" / name, shifted(masks))
    monkeypatch.chdir(tmp_path)
    return root


def mgseg_eval(*arguments):
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


SCORE = ("--dataset", "davis17", "--data", "data", "--results", "results")


def test_the_table_goes_to_stdout_with_the_conditions_below_it(davis):
    done = mgseg_eval(*SCORE, "--report", "page.html")
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert rows[0][:2] == ["davis17", "val,"]
    assert [row[0] for row in rows[3:7]] == ["bear", "object", "object", "cow"]
    assert rows[7][:3] == ["all", "(3", "objects)"]
    assert "DAVIS 2017, semi-supervised" in done.stdout
    assert "page.html" in done.stderr
    assert (davis.parent / "page.html").is_file()


def test_json_and_csv_stand_alone_on_stdout(davis, monkeypatch):
    monkeypatch.setenv("MGSEG_DATA", "data")
    found = json.loads(mgseg_eval("--dataset", "davis17", "--results", "results", "--json").stdout)
    rows = list(csv.DictReader(io.StringIO(mgseg_eval(*SCORE, "--csv", "--sequence", "cow").stdout)))
    assert float(rows[0]["J"]) == found["sequences"]["cow"]["J"]
    assert len(rows) == 3


def test_a_list_of_sequences_narrows_the_split(davis):
    (davis.parent / "list.txt").write_text("\ncow\n", encoding="utf-16")
    found = json.loads(mgseg_eval(*SCORE, "--sequence-list", "list.txt", "--json").stdout)
    assert list(found["sequences"]) == ["cow"]
    assert mgseg_eval(*SCORE, "--sequence-list", "none.txt").exit_code == 1


def test_a_missing_mask_ends_with_exit_1_and_its_name(davis):
    (davis.parent / "results" / "bear" / "00002.png").unlink()
    done = mgseg_eval(*SCORE, "--report", "page.html")
    assert done.exit_code == 1
    assert "bear/00002.png" in done.stderr
    assert done.stdout == ""
    assert not (davis.parent / "page.html").exists()


@pytest.mark.parametrize("extra", [("--json", "--csv"), ("--output", "x"), ("--resume",), ("--no-score",)])
def test_options_that_contradict_each_other_are_a_usage_error(davis, extra):
    assert mgseg_eval(*SCORE, *extra).exit_code == 2


def test_a_run_names_its_folder_after_the_split_and_refuses_to_replace_it(davis, tiny_weights):
    arguments = ("--dataset", "davis17", "--data", "data", "--weights", tiny_weights, "--size", 32, "--device", "cpu")
    done = mgseg_eval(*arguments)
    assert done.exit_code == 0, done.output
    assert f"{tiny_weights.name} (sha256 " in done.stdout
    assert "size 32, float32, memory every 5, at most 10" in done.stdout.replace("\n", " ")
    assert (davis.parent / "davis17_val_masks" / "bear" / "00004.png").is_file()
    again = mgseg_eval(*arguments)
    assert again.exit_code == 1
    assert "--resume" in again.stderr
    assert mgseg_eval(*arguments, "--resume", "--json").exit_code == 0


def test_without_ground_truth_the_results_are_masks_and_zip(davis, tiny_weights, tmp_path):
    make_youtube_vos(tmp_path / "yt", "valid", {"a": shapes(2)}, truth=False)
    done = mgseg_eval("--data", "yt", "--weights", tiny_weights, "--size", 32, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == ["youtube-vos-2019_valid_masks", "youtube-vos-2019_valid.zip"]
    assert "no ground truth" in done.stderr


def test_a_note_on_the_scores_is_a_warning(davis):
    truth = shapes(5)
    truth[1:][truth[1:] == 2] = 0
    write_masks(davis / "Annotations/480p/bear", truth)
    write_masks(davis.parent / "results" / "bear", np.minimum(truth, 1))
    assert "bear, object 2: absent from all scored frames" in mgseg_eval(*SCORE).stderr


def test_under_torchrun_the_sequences_are_shared_out_and_one_process_speaks(davis, tiny_weights):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "mgseg", "eval", "--dataset", "davis17", "--data", "data", "--json"]
    command += ["--weights", str(tiny_weights), "--size", "32", "--device", "cpu", "--workers", "1"]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = []
    for rank in ("0", "1"):
        environment = os.environ | place | {"RANK": rank, "LOCAL_RANK": rank}
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    first, second = (process.communicate(timeout=240)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert second == ""
    report = json.loads(first)
    made = report["settings"]["masks"]
    assert (made["processes"], made["speed"]["frames"], made["speed"]["processes"]) == (2, 9, 2)
    alone = mgseg_eval(*command[4:], "--output", "alone")
    assert json.loads(alone.stdout)["mean"] == report["mean"]
    folders = davis.parent / "davis17_val_masks", davis.parent / "alone"
    for name in [f"bear/{name}.png" for name in names_of(shapes(5))]:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_scoring_given_masks_does_not_wait_for_torch():
    code = "import sys, mgseg.evaluation.evaluate; sys.exit('torch' in sys.modules or 'av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_youtube_vos_figures_by_group_have_a_table_of_their_own(davis, tmp_path):
    categories = {"a": {1: "cat", 2: "owl"}, "b": {1: "cat", 2: "dog"}}
    make_youtube_vos(tmp_path / "yt", "train", {"a": shapes(3), "b": shapes(3)}, categories)
    write_masks(tmp_path / "results" / "a", shapes(3), names_of(shapes(3), 5))
    arguments = ("--data", "yt", "--split", "train", "--sequence", "a", "--results", "results")
    rows = [line.split() for line in mgseg_eval(*arguments).stdout.splitlines()]
    heads = rows.index(["J", "seen", "F", "seen", "J", "unseen", "F", "unseen", "overall"])
    assert rows[heads + 2] == ["100.0"] * 5


def test_a_dataset_that_is_not_there_is_told_with_those_that_are(davis, monkeypatch):
    monkeypatch.setenv("MGSEG_DATA", "data")
    (davis.parent / "data" / "own" / "Annotations" / "clip").mkdir(parents=True)
    done = mgseg_eval("--split", "valid")
    assert done.exit_code == 1
    assert "youtube-vos-2019 valid was not found in data" in done.stderr
    assert "Found there: davis17 (val) in data; data/own, in DAVIS's layout" in done.stderr


def test_masks_to_score_may_have_names_in_upper_case(davis):
    expected = mgseg_eval(*SCORE, "--json").stdout
    for path in list((davis.parent / "results" / "bear").iterdir()):
        path.rename(path.with_suffix(".PNG"))
    assert mgseg_eval(*SCORE, "--json", "--zip", "a.zip", "--report", "page.html").stdout == expected
    assert mgseg_eval(*SCORE, "--report", ".").exit_code == 1
    assert "it is a folder" in mgseg_eval(*SCORE, "--zip", "data").stderr


def test_a_run_that_ends_with_an_error_leaves_no_half_of_a_sequence(davis, tiny_weights):
    path = davis / "JPEGImages" / "480p" / "bear" / "00002.jpg"
    path.write_bytes(path.read_bytes()[:300])
    arguments = ("--dataset", "davis17", "--data", "data", "--weights", tiny_weights, "--size", 32, "--device", "cpu")
    done = mgseg_eval(*arguments, "--output", "out")
    assert done.exit_code == 1
    assert "00002.jpg" in done.stderr
    assert "bear" not in {path.stem for path in (davis.parent / "out").iterdir()}
