"""Export: writes the outputs of `mgseg segment` from the masks of a project, without segmenting again."""

import shlex
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from mgseg.device import find_precision
from mgseg.edit.clips import OpenClip
from mgseg.errors import InputError, MgsegError
from mgseg.files.video import Frame, read_frames
from mgseg.network import Network
from mgseg.outputs.results import Results
from mgseg.outputs.table import Outputs
from mgseg.outputs.writer import Segmented, Target
from mgseg.segment.options import SegmenterOptions
from mgseg.weights import choose_weights, released_weights

# What the dialog offers: name of the output -> the files' names in the folder `export` of the project.
CHOICES: dict[str, tuple[str, ...]] = {
    "masks": ("masks",),
    "overlay": ("overlay.mp4", "overlay.webm", "overlay.gif", "overlay.webp"),
    "matte": ("matte.mov", "matte.webm", "matte.mkv"),
    "cut_outs": ("cut_outs",),
    "each_object": ("each_object",),
    "coco": ("coco.json",),
    "yolo": ("yolo",),
    "labelme": ("labelme",),
    "cvat": ("cvat.xml", "cvat.zip"),
    "boxes": ("boxes.csv",),
}
ANNOTATIONS = ("coco", "yolo", "labelme", "cvat", "boxes")


def choose_outputs(clip: OpenClip, wanted: dict[str, Any]) -> Outputs:
    """Return the requested outputs, in the project's folder `export`: {"masks": "masks", "overlay": "overlay.mp4"}.

    Raises:
        InputError: no result, or an unknown file, is selected.
    """
    for name, file in wanted.items():
        if file not in CHOICES.get(name, ()):
            raise InputError(f"{name!r} cannot be exported as {file!r}")
    if not wanted:
        raise InputError("no result is selected", "choose at least one result")
    places = {name: clip.project.folder / "export" / file for name, file in wanted.items()}
    return Outputs(**places, object_names=_names(clip), overwrite=True)


def command_line(clip: OpenClip, outputs: Outputs, network: Network, options: SegmenterOptions) -> str:
    """Return the command line that makes the same results from the given masks on this machine."""
    given = clip.project.folder / "given"
    words = ["mgseg", "segment", str(clip.info.path), "--mask", str(given), "--both-ways", "--zero-is-background"]
    paths = {name: path for name, path in outputs.paths.items() if path}
    words += ["--output", str(paths.pop("masks"))] if "masks" in paths else ["--no-masks"]
    for name, path in paths.items():
        words += [f"--{name.replace('_', '-')}", str(path)]
    if any(outputs.paths[name] for name in ANNOTATIONS):
        words += ["--names", ",".join(f"{number}={name}" for number, name in _names(clip).items())]
    return shlex.join(words + _network_words(network, options))


def _network_words(network: Network, options: SegmenterOptions) -> list[str]:
    """The options of the network that differ from the defaults."""
    words = []
    if network.path and network.name != choose_weights(network.device.type):
        words += ["--weights", network.name if network.name in released_weights() else str(network.path)]
    if network.precision != find_precision("auto", network.device):
        words += ["--precision", network.precision]
    for name in ("size", "adapt"):
        if (value := getattr(options, name)) != getattr(SegmenterOptions, name):
            words += [f"--{name}", str(value)]
    return words


def _names(clip: OpenClip) -> dict[int, str]:
    return {item.id: item.name.replace(",", " ") for item in clip.project.objects.values() if not item.deleted}


class Exporter:
    """Runs one export after another, in a thread of its own.

    Args:
        notify: called with {"type": "export", "state": "running" | "done" | "failed", "done", "total", ...}.
    """

    def __init__(self, notify: Callable[[str, dict[str, Any]], None]) -> None:
        self._notify = notify
        self._busy = threading.Lock()

    def start(self, clip_id: str, clip: OpenClip, outputs: Outputs) -> None:
        """Check the outputs, then write them.

        Raises:
            InputError: an export is already running.
            OutputError: an output cannot be written.
        """
        if not self._busy.acquire(blocking=False):
            raise InputError("an export is already running", "wait until it has ended")
        try:
            target = Target(
                clip.info,
                clip.project.palette,
                clip.store.num_frames,
                object_ids=tuple(_names(clip)),
                names=outputs.object_names,
            )
            results = Results(outputs, target)
            results.check(clip.info.path)
            report = {"type": "export", "total": clip.store.num_frames, "folder": str(clip.project.folder / "export")}
            thread = threading.Thread(target=self._run, args=(clip_id, clip, results, report), name="export")
            thread.start()
        except BaseException:
            self._busy.release()
            raise

    def _run(self, clip_id: str, clip: OpenClip, results: Results, report: dict[str, Any]) -> None:
        done = 0
        try:
            confidence = clip.project.confidence()  # read once: it looks at the files of all frames
            with results:
                for frame in read_frames(clip.info.path):
                    results.write(_with_mask(clip, frame, confidence.get(frame.index)))
                    done += 1
                    if done % 8 == 1:
                        self._notify(clip_id, report | {"state": "running", "done": done})
            self._notify(clip_id, report | {"state": "done", "done": done})
        except MgsegError as error:
            problem = {"error": str(error), "hint": error.hint}
            self._notify(clip_id, report | problem | {"state": "failed", "done": done})
        finally:
            self._busy.release()


def _with_mask(clip: OpenClip, frame: Frame, confidence: dict[int, float] | None) -> Segmented:
    """A frame with its mask, and with hard scores for outputs that want them: a painted mask has no soft ones."""
    mask = clip.project.mask(frame.index)
    scores = {number: (mask == number).astype(np.float32) for number in _names(clip)}
    return Segmented(frame, mask, scores, confidence=confidence)
