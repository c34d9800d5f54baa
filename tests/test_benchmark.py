"""The benchmark measures both forms on the same clip and finds their masks the same."""

import json
import sys
from copy import deepcopy

import pytest
from typer.testing import CliRunner

import mgseg.benchmark
from mgseg.benchmark import BenchOptions, run_benchmark
from mgseg.cli import app
from mgseg.errors import InputError
from mgseg.model.network import PRESETS
from mgseg.network import Network
from mgseg.weights import save_random_weights, save_weights


@pytest.fixture(scope="module")
def report(tiny_model, tmp_path_factory):
    model = deepcopy(tiny_model)
    model.decoder.predict.weight.data *= 50  # so that few pixels of its masks are ties
    path = tmp_path_factory.mktemp("weights") / "decided.pth"
    save_weights(path, model.config, model.state_dict())
    return run_benchmark(Network(path, "cpu"), BenchOptions(64, 96, objects=3, memory_frames=4, repeats=1))


@pytest.mark.numeric
def test_masks_of_both_forms_agree(report):
    assert report["masks"]["pixels"] == 4 * 64 * 96
    assert report["masks"]["differences"] == 0
    assert report["masks"]["ties"] < report["masks"]["pixels"]


def test_our_form_needs_fewer_operations_and_every_part_is_timed(report):
    assert 0 < report["ratios"]["gflops"] < 1
    assert list(report["parts"]) == ["encode_query", "read", "decode_masks", "encode_memory", "decode", "write"]
    assert all(seconds > 0 for seconds in report["parts"].values())
    assert report["frames_a_second"] == pytest.approx(1 / report["seconds_a_frame"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from /proc")
def test_memory_is_measured_beyond_the_model(report):
    for form in (report, report["plain"]):
        assert 0 < form["peak_bytes"] < 2**30


def test_the_command_prints_json_and_a_table(tiny_weights):
    arguments = ["bench", "--weights", str(tiny_weights), "--size", "32x64", "--repeats", "1", "--device", "cpu"]
    found = CliRunner().invoke(app, [*arguments, "--no-plain", "--json"])
    assert found.exit_code == 0
    assert "plain" not in json.loads(found.stdout)
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0
    for words in ("frames a second", "encode query", "peak memory", "differ in 0 of"):
        assert words in found.stdout


def test_masks_that_differ_are_a_failure(tiny_weights, monkeypatch):
    monkeypatch.setattr(mgseg.benchmark, "_compare", lambda *masks: {"pixels": 9, "ties": 0, "differences": 1})
    arguments = ["bench", "--weights", str(tiny_weights), "--size", "32x64", "--repeats", "1", "--device", "cpu"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 1
    assert "differ in 1 of 9 pixels" in found.stdout
    assert "never should" in found.stderr
    assert CliRunner().invoke(app, [*arguments, "--precision", "bfloat16"]).exit_code == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [({"memory_frames": 1}, "memory frames"), ({"objects": 0}, "objects"), ({"height": 70}, "multiples of 16")],
)
def test_what_cannot_be_measured_is_named(tiny_network, change, says):
    with pytest.raises(InputError, match=says):
        run_benchmark(tiny_network, BenchOptions(**change))


@pytest.mark.parametrize(
    ("arguments", "says"), [(["--size", "480"], "HEIGHTxWIDTH"), (["--weights", "random:vgg"], "no network 'vgg'")]
)
def test_sizes_and_networks_that_are_none_are_named(arguments, says):
    found = CliRunner().invoke(app, ["bench", "--device", "cpu", *arguments])
    assert found.exit_code == 1
    assert says in found.stderr


def test_a_network_built_in_memory_cannot_be_loaded_again(tiny_network):
    with pytest.raises(InputError, match="from a file"):
        run_benchmark(tiny_network, BenchOptions())


def test_random_weights_are_the_same_every_time_and_fit_their_network(tmp_path):
    first, second = (save_random_weights("lite", tmp_path / name) for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert Network(first, "cpu").config == PRESETS["lite"]
