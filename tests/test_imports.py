"""Who may import whom, read from the source with ast, and what `mgseg --help` must not load."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mgseg"
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))

PICTURES = {"numpy", "PIL"}
TENSORS = {"numpy", "torch"}
CLIPS = {"errors", "masks", "overlay", "pictures", "video", "video_writer"}
SEGMENT = CLIPS | {
    "device",
    "given_masks",
    "model",
    "options",
    "overlap",
    "results",
    "resume",
    "scaling",
    "segmenter",
    "weights",
}
# What a file, or each file of a folder, may import: modules of mgseg, and packages from elsewhere.
# The command line may import anything inside functions, but only this at module level.
MAY_IMPORT: dict[str, tuple[set[str], set[str]]] = {
    "__init__": ({"errors", "results", "segment", "segmenter", "weights"}, set()),
    "__main__": ({"cli"}, set()),
    "errors": (set(), set()),
    "pictures": ({"errors"}, PICTURES),
    "decoding": ({"errors", "pictures"}, {"numpy", "av"}),
    "video": ({"errors", "pictures", "decoding"}, {"numpy"}),
    "video_writer": ({"decoding", "errors"}, PICTURES | {"av", "imageio"}),
    "masks": ({"errors", "pictures"}, PICTURES),
    "overlap": (set(), set()),
    "device": ({"errors", "options"}, {"torch"}),
    "given_masks": ({"errors", "masks", "pictures", "video"}, {"numpy"}),
    "results": ({"errors", "masks", "overlay", "pictures", "video", "video_writer"}, PICTURES),
    "resume": ({"errors", "masks", "pictures"}, {"numpy"}),
    "overlay": ({"errors", "masks"}, PICTURES),
    "metrics": ({"errors"}, TENSORS),
    "model": ({"model"}, {"torch"}),
    "weights": ({"device", "errors", "model", "options"}, TENSORS),
    "options": (set(), {"torch"}),
    "scaling": (set(), {"torch"}),
    "segmenter": ({"device", "errors", "masks", "model", "options", "scaling"}, TENSORS),
    "segment": (SEGMENT, TENSORS),
    "evaluate": (SEGMENT | {"data", "evaluation"}, TENSORS),
    "evaluation": (SEGMENT | {"data", "evaluation", "metrics"}, TENSORS | PICTURES),
    "benchmark": (SEGMENT, TENSORS),
    "data": ({"data", "errors", "masks", "pictures", "video"}, TENSORS | PICTURES | {"pycocotools"}),
    "training": (SEGMENT | {"data", "evaluate", "training"}, TENSORS | PICTURES | {"tensorboard"}),
    "cli": ({"cli", "errors"}, {"typer", "rich"}),
}


def _nodes_at_start(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is loaded: not the insides of functions, not `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        only_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not isinstance(node, ast.FunctionDef) and not only_for_types:
            yield node
            yield from _nodes_at_start(node)


def _imports(nodes: Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path: no leading dots"
            yield from (f"mgseg.{alias.name}" for alias in node.names if node.module == "mgseg")
            yield from [node.module] if node.module and node.module != "mgseg" else []


def test_the_table_names_every_module_and_no_other() -> None:
    assert set(MAY_IMPORT) == {file.parts[0].removesuffix(".py") for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_module_imports_only_what_its_place_allows(file: Path) -> None:
    own, foreign = MAY_IMPORT[file.parts[0].removesuffix(".py")]
    tree = ast.parse((PACKAGE / file).read_text("utf-8"))
    for name in _imports(_nodes_at_start(tree) if file.parts[0] == "cli" else ast.walk(tree)):
        top, *rest = name.split(".")
        if top == "mgseg":
            assert not rest or rest[0] in own, f"{file} imports {name}"
        else:
            assert top in sys.stdlib_module_names or top in foreign, f"{file} imports {name}"


def _options(function: ast.FunctionDef) -> set[str]:
    """The parameters that typer turns into options or arguments, but those that act by a callback."""
    arguments = [*function.args.args, *function.args.kwonlyargs]
    typed = {a.arg: ast.unparse(a.annotation) for a in arguments if a.annotation}
    return {name for name, text in typed.items() if "Annotated" in text and "callback=" not in text}


@pytest.mark.parametrize("file", [f for f in FILES if f.parts[0] == "cli"], ids=str)
def test_no_option_of_a_command_is_ignored(file: Path) -> None:
    for node in ast.walk(ast.parse((PACKAGE / file).read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            used = {n.id for child in node.body for n in ast.walk(child) if isinstance(n, ast.Name)}
            assert _options(node) <= used, f"{file}: {node.name} ignores {_options(node) - used}"


@pytest.mark.parametrize("command", [[], ["segment"], ["eval"], ["train"], ["weights"]], ids=" ".join)
def test_help_does_not_wait_for_heavy_packages(command: list[str]) -> None:
    code = (
        "import sys; from mgseg.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'torchvision', 'av', 'numpy', 'PIL', 'imageio'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *command, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
