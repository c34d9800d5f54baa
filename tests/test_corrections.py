"""The simulated annotator."""

import json

import numpy as np
import pytest
from made_datasets import make_davis, shapes, shifted
from typer.testing import CliRunner

from mgseg.cli import app
from mgseg.data.catalog import find_split
from mgseg.errors import InputError
from mgseg.evaluation.corrections import Pick, mean_rounds, simulate_corrections
from mgseg.evaluation.metrics import region_similarity
from mgseg.files.masks import read_index_map
from mgseg.segment.clip import segment_clip
from mgseg.segment.options import SegmenterOptions
from mgseg.segment.segmenter import Segmenter

OPTIONS = SegmenterOptions(size=32, memory_every=2)


@pytest.fixture
def davis(tmp_path):
    return make_davis(tmp_path / "data", {"bear": shapes(9), "cow": shifted(shapes(7, ids=(4,)), 3)})


@pytest.mark.parametrize("pick", [Pick.oracle, Pick.uniform])
def test_corrections_raise_the_score_up_to_the_truth(davis, tiny_network, pick):
    split = find_split("davis17", "val", davis)
    rounds = simulate_corrections(split, 9, pick, tiny_network, OPTIONS)
    assert [len(made) for made in rounds.values()] == [9, 7]  # every frame is corrected in the end
    assert rounds["bear"][0].frames == ()
    for made in rounds.values():
        assert len(set(made[-1].frames)) == len(made[-1].frames)
        assert made[-1].j_and_f == 1
        assert made[0].j_and_f < made[-2].j_and_f
    means = mean_rounds(rounds)
    assert means[0].j == pytest.approx(np.mean([made[0].j for made in rounds.values()]))


def test_even_corrections_are_spread(davis, tiny_network):
    rounds = simulate_corrections(find_split("davis17", "val", davis), 3, Pick.uniform, tiny_network, OPTIONS)
    assert [made.frames for made in rounds["bear"]] == [(), (5,), (3, 7), (2, 5, 7)]


def test_keeping_what_a_correction_does_not_change_changes_no_score(davis, tiny_network, monkeypatch):
    split = find_split("davis17", "val", davis).only(["bear"])
    steps = []
    step = Segmenter.step
    monkeypatch.setattr(Segmenter, "step", lambda self, *args, **more: steps.append(1) or step(self, *args, **more))
    rounds = simulate_corrections(split, 3, Pick.oracle, tiny_network, OPTIONS)["bear"]
    with_resume = len(steps)
    sequence = split.sequences[0]
    for made in rounds:
        masks = {n: read_index_map(sequence.masks[f"{n:05d}"]) for n in (0, *made.frames)}
        found = {}
        segment_clip(
            sequence.frames[0].parent,
            masks,
            network=tiny_network,
            options=OPTIONS,
            zero_is_background=True,
            on_mask=found.__setitem__,
        )
        truth = [read_index_map(path) for _, path in sorted(sequence.masks.items())]
        j = [region_similarity(found[t] == i, truth[t] == i) for t in range(1, 8) for i in np.unique(truth[0])[1:]]
        assert made.j == pytest.approx(np.mean(j), abs=1e-12)
    assert with_resume < len(steps) - with_resume


def test_the_oracle_takes_the_worst_frame(davis, tiny_network):
    from mgseg.evaluation.evaluate import evaluate_split

    split = find_split("davis17", "val", davis).only(["cow"])
    rounds = simulate_corrections(split, 1, Pick.oracle, tiny_network, OPTIONS)
    score = evaluate_split(split, tiny_network, OPTIONS).objects[0]
    assert rounds["cow"][0].j == pytest.approx(score.j.mean())
    assert rounds["cow"][0].f == pytest.approx(score.f.mean())


def test_weights_without_confidence_cannot_pick_by_it(davis, tiny_network):
    with pytest.raises(InputError, match="contain no confidence model"):
        simulate_corrections(find_split("davis17", "val", davis), 1, Pick.confidence, tiny_network, OPTIONS)


def test_the_command_prints_a_table_or_json(davis, tiny_weights):
    command = ["eval", "--dataset", "davis17", "--data", str(davis), "--weights", str(tiny_weights), "--size", "32"]
    command += ["--corrections", "1", "--pick", "oracle", "--sequence", "cow"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "cow" in done.stdout
    assert "mean" in done.stdout
    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert len(found["sequences"]["cow"]) == 2
    assert found["mean"][0]["J&F"] == found["sequences"]["cow"][0]["J&F"]
    assert CliRunner().invoke(app, [*command, "--results", "x"]).exit_code == 2
