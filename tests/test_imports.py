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
CLIPS = {"errors", "files"}
SEGMENT = CLIPS | {"device", "model", "network", "outputs", "segment", "weights"}
# What a file, or each file of a folder, may import: modules of mgseg by the start of their names, and packages from
# elsewhere. The longest entry that fits a file counts. The command line may import anything inside functions, but
# only this at module level.
MAY_IMPORT: dict[str, tuple[set[str], set[str]]] = {
    "__init__": ({"errors", "files", "network", "outputs", "segment"}, set()),
    "__main__": ({"cli"}, set()),
    "errors": (set(), set()),
    "device": ({"errors"}, {"torch"}),
    "distributed": ({"device"}, {"torch"}),
    "weights": ({"errors", "files.whole_file", "model"}, TENSORS),
    "network": ({"device", "errors", "model", "weights"}, {"torch"}),
    "stm_import": ({"errors", "model", "weights"}, TENSORS),
    "benchmark": (SEGMENT, TENSORS),
    "files": (set(), set()),
    "files/whole_file": ({"errors"}, set()),
    "files/pictures": ({"errors", "files.whole_file"}, PICTURES),
    "files/names": ({"errors"}, set()),
    "files/frame": (set(), {"numpy"}),
    "files/times": (set(), {"av"}),
    "files/truncation": (set(), set()),
    "files/decoding": ({"errors", "files.names", "files.pictures", "files.times", "files.truncation"}, {"av"}),
    "files/upright": (set(), PICTURES | {"av"}),
    "files/video_file": (
        {"errors", "files.decoding", "files.frame", "files.names", "files.times", "files.upright"},
        {"numpy", "av"},
    ),
    "files/picture_clips": ({"errors", "files.frame", "files.names", "files.pictures"}, PICTURES),
    "files/video": ({"files.decoding", "files.frame", "files.names", "files.picture_clips", "files.video_file"}, set()),
    "files/sound": ({"files.decoding", "files.times"}, {"av"}),
    "files/conversion": (set(), {"av"}),
    "files/encodings": ({"errors"}, {"av"}),
    "files/video_writer": (
        {"errors", "files.conversion", "files.encodings", "files.sound", "files.whole_file"},
        PICTURES | {"av", "imageio"},
    ),
    "files/masks": ({"errors", "files.mask_forms", "files.names", "files.palettes", "files.pictures"}, PICTURES),
    "files/mask_video": ({"errors", "files.conversion", "files.decoding", "files.upright"}, {"numpy", "av"}),
    "files/mask_forms": ({"errors", "files.flatness", "files.palettes"}, PICTURES),
    "files/palettes": (set(), PICTURES),
    "files/flatness": (set(), {"numpy"}),
    "files/guided_filter": (set(), PICTURES),
    "files/matte": ({"errors", "files.guided_filter", "files.masks"}, PICTURES),
    "files/background": ({"errors", "files.guided_filter", "files.pictures"}, PICTURES),
    "files/exr": ({"errors", "files.encodings", "files.whole_file"}, {"numpy", "av"}),
    "files/overlay": ({"errors", "files.masks", "files.matte"}, PICTURES),
    "files/stills": ({"errors", "files"}, PICTURES),
    "files/threads": (set(), set()),
    "files/grabcut": ({"errors"}, {"numpy", "cv2"}),
    "model": ({"model"}, {"torch"}),
    "outputs": (CLIPS | {"annotations", "outputs"}, PICTURES),
    "outputs/report": (CLIPS | {"outputs"}, PICTURES | {"jinja2"}),
    "annotations": (CLIPS | {"annotations"}, PICTURES),
    "segment": (set(), set()),
    "segment/options": (set(), set()),
    "segment/scaling": (set(), {"torch"}),
    "segment/scores": ({"segment.scaling"}, TENSORS),
    "segment/cuts": (set(), {"numpy"}),
    "segment/run": (SEGMENT, TENSORS),
    "segment/stretches": ({"segment.given_masks", "segment.resume"}, set()),
    "segment/forward_pass": (SEGMENT, TENSORS),
    "segment/backward_pass": ({"segment.segmenter"}, {"numpy"}),
    "segment/confidence": ({"errors", "model", "network"}, {"torch"}),
    "segment/views": ({"model", "segment.scaling"}, {"torch"}),
    "segment/segmenter": (
        {"device", "errors", "files.masks", "model", "network"}
        | {
            "segment.adaptation",
            "segment.confidence",
            "segment.options",
            "segment.scaling",
            "segment.scores",
            "segment.views",
        },
        TENSORS | {"PIL"},
    ),
    "segment/adaptation": (
        {"data", "device", "errors", "model", "network", "training.objective"},
        TENSORS,
    ),
    "segment/given_masks": (CLIPS | {"segment"}, {"numpy"}),
    "segment/video_masks": (CLIPS | {"segment.mask_sources"}, {"numpy"}),
    "segment/mask_checks": (CLIPS | {"segment.mask_parts", "segment.mask_sources"}, {"numpy"}),
    "segment/mask_sources": ({"errors"}, {"numpy"}),
    "segment/mask_parts": (CLIPS | {"annotations", "segment.mask_sources"}, PICTURES),
    "segment/object_numbers": (CLIPS | {"segment.mask_parts"}, {"numpy"}),
    "segment/drawn_shapes": (CLIPS | {"segment.mask_sources"}, PICTURES),
    "segment/resume": (CLIPS, {"numpy"}),
    "segment/clip": (SEGMENT, TENSORS),
    "evaluation": (SEGMENT | {"__version__", "data", "distributed", "evaluation"}, TENSORS | PICTURES),
    "evaluation/calibration": (SEGMENT | {"data", "evaluation"}, TENSORS | {"scipy"}),
    "evaluation/confidence": (set(), {"numpy"}),
    "evaluation/page": ({"data", "errors", "evaluation", "files"}, PICTURES | {"jinja2"}),
    "evaluation/metrics": ({"errors"}, TENSORS),
    "data": ({"data", "errors", "files"}, TENSORS | PICTURES | {"pycocotools"}),
    "training": (SEGMENT | {"data", "distributed", "evaluation", "training"}, TENSORS | PICTURES | {"tensorboard"}),
    "training/imagenet": ({"errors", "model"}, {"torch", "torchvision"}),
    "edit": (SEGMENT | {"edit", "outputs"}, {"numpy", "PIL", "starlette", "uvicorn"}),
    "cli": ({"cli", "errors"}, {"typer", "rich"}),
}


def _entry(file: Path) -> str:
    name = file.with_suffix("").as_posix()
    return max((key for key in MAY_IMPORT if name == key or name.startswith(key + "/")), key=len)


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


def test_the_table_names_every_room_and_no_other() -> None:
    assert {key.split("/")[0] for key in MAY_IMPORT} == {file.parts[0].removesuffix(".py") for file in FILES}
    assert set(MAY_IMPORT) <= {parent.as_posix() for file in FILES for parent in (file.with_suffix(""), *file.parents)}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_module_imports_only_what_its_place_allows(file: Path) -> None:
    own, foreign = MAY_IMPORT[_entry(file)]
    tree = ast.parse((PACKAGE / file).read_text("utf-8"))
    for name in _imports(_nodes_at_start(tree) if file.parts[0] == "cli" else ast.walk(tree)):
        top, *rest = name.split(".")
        if top == "mgseg":
            module = ".".join(rest)
            assert not rest or any(module == room or module.startswith(room + ".") for room in own), f"{file}: {name}"
        else:
            assert top in sys.stdlib_module_names or top in foreign, f"{file} imports {name}"


def test_the_fast_forms_lie_behind_a_wall_with_few_doors() -> None:
    """The network calls one function of theirs; everything else prepares a network, or counts its operations."""
    doors = {"model": {"convolve.convolve"}}
    others = {"prepare.prepare_for_inference", "prepare.prepare_for_training", "counts.operation_counts"}
    for file in FILES:
        if file.is_relative_to("model/fast"):
            continue
        nodes = [n for n in ast.walk(ast.parse((PACKAGE / file).read_text("utf-8"))) if isinstance(n, ast.ImportFrom)]
        taken = {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}
        inside = {name.removeprefix("mgseg.model.fast.") for name in taken if name.startswith("mgseg.model.fast")}
        assert inside <= doors.get(file.parts[0], others), f"{file}: {inside}"


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
