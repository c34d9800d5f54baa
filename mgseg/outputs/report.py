"""Report: one HTML page with confidence and area of each object, scene cuts and the worst frames."""

import base64
import io
import shlex
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from types import TracebackType
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from mgseg.files.overlay import draw_overlay
from mgseg.files.whole_file import make_folder, write_whole
from mgseg.outputs.timeline import GAP, LOOK_AT, DoubtfulStretch, Timeline
from mgseg.outputs.writer import OutputWriter, Segmented, Target

MOST_PICTURES = 24  # kept while the clip goes on; the least confident of them
SHOWN = 12  # stretches on the page
PICTURE_WIDTH = 480
POINTS = 600  # of a curve: more frames are shown by the lowest of each group
_ZERO = "--zero-is-background"
WIDTH, HEIGHT = 1000, 80  # of a curve, in units of the page


@dataclass(frozen=True)
class Report:
    """Path of the page, and the command that it shows for a run with a corrected mask.

    Args:
        path: path of the page.
        command: words of the command that made the results; None for one with the paths that are known.
    """

    path: Path
    command: tuple[str, ...] | None = None


@dataclass
class _Picture:
    """The worst frame so far of one stretch of one object."""

    object_id: int
    worst: int
    last: int
    confidence: float
    jpeg: bytes


class ReportWriter(OutputWriter):
    """Writes the page when the run ends. Of the frames only a bounded number of small pictures is kept."""

    is_folder = False
    in_order = True

    def __init__(self, wanted: Path | Report, target: Target) -> None:
        super().__init__(wanted.path if isinstance(wanted, Report) else wanted, target)
        given = [word for mask in target.given or ("FIRST_MASK.png",) for word in ("--mask", mask)]
        words = ("mgseg", "segment", str(target.clip.path), *given)
        self._command = wanted.command if isinstance(wanted, Report) and wanted.command else words
        self._timeline = Timeline()
        self._pictures: list[_Picture] = []
        self._least: _Picture | None = None  # the least confident of the other frames

    def write(self, item: Segmented) -> None:
        """Take a frame's figures, and its picture if it is the worst of a stretch."""
        self._timeline.add(item)
        for object_id, value in (item.confidence or {}).items():
            if value < LOOK_AT:
                self._keep(item, object_id, value)
            elif value < (self._least.confidence if self._least else 1):
                number = item.frame.index
                self._least = _Picture(object_id, number, number, value, self._draw(item))

    def _keep(self, item: Segmented, object_id: int, value: float) -> None:
        number = item.frame.index
        same = [p for p in self._pictures if p.object_id == object_id and number - p.last <= GAP]
        if same:
            same[0].last = number
            if value >= same[0].confidence:
                return
            self._pictures.remove(same[0])
        self._pictures.append(_Picture(object_id, number, number, value, self._draw(item)))
        if len(self._pictures) > MOST_PICTURES:
            self._pictures.remove(max(self._pictures, key=lambda picture: picture.confidence))

    def _draw(self, item: Segmented) -> bytes:
        assert item.mask is not None
        picture = Image.fromarray(draw_overlay(item.frame.image, item.mask, self.target.palette))
        picture.thumbnail((PICTURE_WIDTH, PICTURE_WIDTH))
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=80)
        return data.getvalue()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the page; none on an error."""
        if error is None:
            make_folder(self.path.parent)
            write_whole(self.path, self._page().encode())
        super().__exit__(kind, error, trace)

    def _page(self) -> str:
        stretches, kept, least = self._timeline.stretches(), self._pictures, self._least
        listed = stretches
        if not stretches and least:  # the prediction can be wrong: there is always something to check
            listed = [DoubtfulStretch(least.object_id, least.worst, least.worst, least.worst, least.confidence)]
            kept = [least]
        pictures = {(p.object_id, p.worst): p.jpeg for p in kept}
        shown = [
            {
                "stretch": stretch,
                "picture": base64.b64encode(pictures[stretch.object_id, stretch.worst]).decode(),
                "commands": self._commands(stretch.worst),
            }
            for stretch in listed
            if (stretch.object_id, stretch.worst) in pictures
        ][:SHOWN]
        tracks = list(self._timeline.tracks())
        last = max((frames[-1] for _, frames, _, _ in tracks), default=0)
        return _template().render(
            clip=self.target.clip.path.name,
            num_frames=len({frame for _, frames, _, _ in tracks for frame in frames}),
            has_confidence=self._timeline.has_confidence,
            objects=[self._curves(*track, last) for track in tracks],
            cuts=[{"frame": cut, "x": _place(cut, last)} for cut in sorted(self._timeline.cuts)],
            num_stretches=len(stretches),
            shown=shown,
            last=last,
            look_at=LOOK_AT,
            width=WIDTH,
            height=HEIGHT,
        )

    def _curves(
        self, object_id: int, frames: list[int], values: list[float], areas: list[int], last: int
    ) -> dict[str, Any]:
        red, green, blue = self.target.palette[3 * object_id : 3 * object_id + 3]
        largest = max(areas, default=0) or 1
        known = [value for value in values if not isnan(value)]
        return {
            "id": object_id,
            "colour": f"rgb({red},{green},{blue})",
            "confidence": _points(frames, values, last),
            "area": _points(frames, [area / largest for area in areas], last),
            "largest": largest,
            "mean": float(np.mean(known)) if known else None,
            "lowest": min(known, default=None),
        }

    def _commands(self, frame: int) -> list[str]:
        """How to save a frame, and how to go on with its corrected mask: by the same command."""
        silent = len(self.target.given) > 1 and _ZERO not in self._command  # as in the run before, or none is kept
        again = [word for word in self._command if word not in (_ZERO, "--resume", "--overwrite")]
        zero = [] if silent else [_ZERO]
        return [
            shlex.join(["mgseg", "frame", str(self.target.clip.path), str(frame), "-o", "frame.png"]),
            shlex.join([*again, "--mask", f"{frame}=corrected.png", *zero, "--resume"]),
        ]


def _place(frame: int, last: int) -> float:
    return round(frame / max(last, 1) * WIDTH, 1)


def _points(frames: list[int], values: list[float], last: int) -> str:
    """A curve for SVG; of a long clip, the lowest value of each group of frames."""
    known = [(frame, value) for frame, value in zip(frames, values, strict=True) if not isnan(value)]
    size = max(1, len(known) // POINTS)
    groups = [min(known[i : i + size], key=lambda point: point[1]) for i in range(0, len(known), size)]
    return " ".join(f"{_place(frame, last)},{round((1 - value) * HEIGHT, 1)}" for frame, value in groups)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mgseg.outputs", "pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html")
