"""`mgseg weights`: what it prints, writes and refuses."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from mgseg import stm_import, weights
from mgseg.cli import app
from mgseg.model.network import MotionGuidedSTM


def mgseg_weights(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["weights", *map(str, arguments)])


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of released weights: one file as released, one changed since, one not there."""
    (tmp_path / "good.pth").write_bytes(b"x" * 1_500_000)
    (tmp_path / "bad.pth").write_bytes(b"cut short")
    sha256 = hashlib.sha256(b"x" * 1_500_000).hexdigest()
    entries = [
        {"name": name, "file": f"{name}.pth", "sha256": sha256, "scores": {"DAVIS 2016 val": 71.25}}
        for name in ("good", "bad", "gone")
    ]
    (tmp_path / "released.json").write_text(json.dumps(entries))
    monkeypatch.setattr(weights, "weights_folder", lambda: tmp_path)
    return tmp_path


def test_list_says_which_files_are_the_released_ones(shelf: Path) -> None:
    done = mgseg_weights("list", "--json")
    assert done.exit_code == 0
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert {name: row["state"] for name, row in rows.items()} == {"good": "ok", "bad": "differs", "gone": "missing"}
    assert {name: row["bytes"] for name, row in rows.items()} == {"good": 1_500_000, "bad": 9, "gone": None}
    assert rows["good"]["path"] == str(shelf / "good.pth")


@pytest.mark.usefixtures("shelf")
def test_list_prints_sizes_and_scores_as_a_table() -> None:
    table = mgseg_weights("list").stdout
    assert "1.5 MB" in table
    assert "71.2 DAVIS 2016 val" in table


def test_import_and_export_write_checkpoints_that_load(tmp_path: Path) -> None:
    torch.manual_seed(0)
    published, imported, exported = (tmp_path / name for name in ("stm.pth", "imported.pth", "exported.pth"))
    torch.save(published_names(), published)
    done = mgseg_weights("import", published, "-o", imported)
    assert (done.exit_code, done.stdout.strip()) == (0, str(imported))
    done = mgseg_weights("export", imported, "-o", exported)
    assert (done.exit_code, done.stdout.strip()) == (0, str(exported))
    assert exported.stat().st_size < 0.6 * imported.stat().st_size
    assert not weights.load_network(exported).config.motion_prior
    before = exported.read_bytes(), imported.read_bytes()
    for command, source in (("import", published), ("export", imported)):
        done = mgseg_weights(command, source, "-o", exported)
        assert (done.exit_code, "exists" in done.stderr) == (1, True)
        done = mgseg_weights(command, source, "-o", source, "--overwrite")
        assert (done.exit_code, "an input of this command" in done.stderr) == (1, True)
    assert (exported.read_bytes(), imported.read_bytes()) == before
    assert mgseg_weights("export", imported, "-o", exported, "--overwrite").exit_code == 0


def published_names() -> dict[str, torch.Tensor]:
    """A random model's tensors under the names of the published STM."""
    model = MotionGuidedSTM(stm_import.STM_CONFIG)
    names = {ours: theirs for theirs, ours in stm_import._STM_NAMES.items()}
    return {
        f"module.{names[prefix]}{name.removeprefix(prefix)}": tensor
        for name, tensor in model.state_dict().items()
        for prefix in names
        if name.startswith(prefix + ".")
    }


@pytest.mark.parametrize("command", ["import", "export"])
def test_what_is_no_checkpoint_is_refused_and_nothing_written(command: str, tmp_path: Path) -> None:
    source, target = tmp_path / "notes.pth", tmp_path / "out.pth"
    source.write_text("not a checkpoint")
    done = mgseg_weights(command, source, "-o", target)
    assert done.exit_code == 1
    assert "notes.pth" in done.stderr
    assert list(tmp_path.iterdir()) == [source]


def test_the_help_of_calibrate_names_the_extra_in_its_brackets() -> None:
    """Rich takes [calibrate] for markup and drops it unless it is escaped."""
    assert "mgseg[calibrate]" in mgseg_weights("calibrate", "--help").stdout
