"""What `pip install` puts on a machine that has no checkout."""

import ast
import re
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import mgseg

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


PUBLIC = [
    "Alpha",
    "CutOuts",
    "MaskReading",
    "Matte",
    "MgsegError",
    "Network",
    "Outputs",
    "Segmenter",
    "SegmenterOptions",
    "Span",
    "__version__",
    "read_mask",
    "segment_clip",
    "write_mask",
]


def test_the_public_names_are_these_and_are_all_there() -> None:
    assert sorted(mgseg.__all__) == PUBLIC
    assert all(getattr(mgseg, name) is not None for name in PUBLIC)
    assert set(PUBLIC) <= set(dir(mgseg))
    tree = ast.parse(Path(mgseg.__file__).read_text("utf-8"))
    typed = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed - {"TYPE_CHECKING", "import_module"} == {*PUBLIC} - {"__version__"}  # type checkers see the same names


def _programs() -> dict[str, str]:
    readme = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    programs = {f"README.md, {number}": block for number, block in enumerate(blocks)}
    return programs | {path.name: path.read_text("utf-8") for path in (ROOT / "examples").glob("*.py")}


@pytest.mark.parametrize("name", _programs())
def test_what_we_show_uses_public_names_alone(name: str) -> None:
    tree = ast.parse(_programs()[name])
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert not [module for module in modules if module.startswith("mgseg.")]
    used = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "mgseg"]
    assert used
    assert {node.attr for node in used} <= set(PUBLIC)


def test_the_version_is_said_once() -> None:
    assert WheelBuilder(str(ROOT)).metadata.version == mgseg.__version__
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert cited
    assert cited[1] == mgseg.__version__
