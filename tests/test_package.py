"""What `pip install` puts on a machine that has no checkout."""

from pathlib import Path

from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_the_weights_inside_the_package_and_nothing_beside_it() -> None:
    packed = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {"mgseg/py.typed", "mgseg/cli/__init__.py", "mgseg/_weights/README.md"} <= packed
    assert {f"mgseg/_weights/{path.name}" for path in (ROOT / "weights").glob("*.pth")} <= packed
    assert {Path(name).parts[0] for name in packed} == {"mgseg"}


def test_the_source_archive_can_be_tested_as_it_is() -> None:
    packed = {file.distribution_path for file in SdistBuilder(str(ROOT)).recurse_included_files()}
    needed = {"LICENSE", "weights/README.md", "examples/bunny.mp4", "tests/test_package.py", ".ci/run"}
    assert needed <= packed
