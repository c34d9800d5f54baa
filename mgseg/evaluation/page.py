"""An HTML page of a report: figures, curves, and the worst objects and frames as pictures. One file, no script.

What stands where is in page.html.jinja; here is what it shows.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.data.catalog import Split, VideoSequence
from mgseg.evaluation.report import FIGURES, ObjectScore, Report, flatten
from mgseg.evaluation.scoring import result_path
from mgseg.files.masks import VOID, read_index_map
from mgseg.files.pictures import read_picture
from mgseg.files.whole_file import write_whole

WORST_OBJECTS, PICTURES_OF_EACH = 6, 4
WORST_FRAMES = 12
APART = 0.2  # of an object's frames lie between two of its worst that are shown: neighbours look the same
ZOOM, AROUND = 4.0, 1.6  # small objects are shown larger, at most so much, with so much room (1: none)
PICTURE_WIDTH = 420  # pixels
RIGHT, FALSE, MISSED = (70, 200, 120), (235, 70, 60), (70, 130, 245)  # colours, in the template's style, too
OPACITY = 0.55


class Picture(NamedTuple):
    """A picture of the page: a JPEG in base64 and its caption."""

    jpeg: str
    caption: str


def write_page(report: Report, split: Split, results: Path, path: Path) -> None:
    """Write the page of a report.

    Args:
        report: with scores, or the page says that there are none.
        split: what was scored; its pictures are shown where they are at hand.
        results: folder of the scored masks.
        path: the page; appears whole or not at all.

    Raises:
        OutputError: the page cannot be written.
    """
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    templates = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    members: dict[str, list[ObjectScore]] = {}
    for score in report.objects:
        members.setdefault(score.sequence, []).append(score)
    ranked = sorted(report.sequences.items(), key=lambda item: item[1]["J&F"])
    page = templates.get_template("page.html.jinja").render(
        title=f"{report.settings['dataset']} {report.settings['split']}",
        protocol=report.settings["protocol"],
        mean=report.mean,
        notes=report.notes,
        columns=FIGURES,
        sequences=[(name, figures, members[name]) for name, figures in ranked],
        worst_objects=_worst_objects(report, split, results),
        worst_frames=_worst_frames(report, split, results),
        settings=flatten(report.settings),
        percent=lambda value: f"{100 * value:.1f}",
        points=_points,
    )
    write_whole(path, page)


def _points(values: Sequence[float], width: int, height: int) -> str:
    """The points of a curve over the frames in an SVG of that size, 0 at the bottom, 1 at the top."""
    steps = np.linspace(1, width - 1, len(values)) if len(values) > 1 else np.array([1.0])
    return " ".join(f"{x:.1f},{height - 1 - (height - 2) * y:.1f}" for x, y in zip(steps, values, strict=True))


def _worst_objects(report: Report, split: Split, results: Path) -> Iterator[tuple[ObjectScore, list[Picture]]]:
    for score in sorted(report.objects, key=lambda score: score.figures["J&F"])[:WORST_OBJECTS]:
        count = min(PICTURES_OF_EACH, len(score.frames))
        shown = np.linspace(0, len(score.frames) - 1, count).round().astype(int).tolist()
        yield score, [_picture(split, results, score, k, f"frame {score.frames[k]}") for k in shown]


def _worst_frames(report: Report, split: Split, results: Path) -> Iterator[Picture]:
    ranked = sorted((s.j[k] + s.f[k], n, k) for n, s in enumerate(report.objects) for k in range(len(s.frames)))
    shown: list[tuple[int, int]] = []
    for _, n, k in ranked:
        score = report.objects[n]
        if any(n == other and abs(k - taken) < APART * len(score.frames) for other, taken in shown):
            continue
        shown.append((n, k))
        yield _picture(split, results, score, k, f"{score.sequence}, object {score.object_id}, frame {score.frames[k]}")
        if len(shown) == WORST_FRAMES:
            return


def _picture(split: Split, results: Path, score: ObjectScore, k: int, caption: str) -> Picture:
    sequence = next(sequence for sequence in split.sequences if sequence.name == score.sequence)
    picture = _draw(sequence, score, score.frames[k], results, single_object=split.single_object)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=82)
    jpeg = base64.b64encode(data.getvalue()).decode()
    return Picture(jpeg, f"{caption}: J {100 * score.j[k]:.1f}, F {100 * score.f[k]:.1f}")


def _draw(
    sequence: VideoSequence, score: ObjectScore, frame: str, results: Path, *, single_object: bool
) -> Image.Image:
    """Colour the right, false and missed pixels of an object on its frame, or on grey if there is no frame."""
    truth = read_index_map(sequence.masks[frame])
    predicted = read_index_map(result_path(results, sequence.name, frame))
    true, marked = (m > 0 if single_object else m == score.object_id for m in (truth, predicted))
    counted = np.ones_like(true) if single_object else truth != VOID
    paths = {path.stem: path for path in sequence.frames}
    if frame in paths:
        size = truth.shape[1], truth.shape[0]
        image = np.asarray(Image.fromarray(read_picture(paths[frame])).resize(size), np.float32).copy()
    else:
        image = np.full((*truth.shape, 3), 96, np.float32)
    for pixels, colour in ((true & marked, RIGHT), (marked & ~true, FALSE), (true & ~marked, MISSED)):
        pixels &= counted
        image[pixels] += OPACITY * (np.array(colour, np.float32) - image[pixels])
    picture = Image.fromarray(image.astype(np.uint8)).crop(_window((true | marked) & counted))
    return picture.resize((PICTURE_WIDTH, max(1, round(PICTURE_WIDTH * picture.height / picture.width))))


def _window(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return a window of the picture's shape around a mask: left, top, right, bottom."""
    size = np.array(mask.shape)
    places = np.argwhere(mask)
    if not len(places):
        return 0, 0, mask.shape[1], mask.shape[0]
    low, high = places.min(axis=0), places.max(axis=0) + 1
    scale = max(1 / ZOOM, min(1.0, float(((high - low) / size).max()) * AROUND))
    window = np.maximum(1, size * scale)
    top, left = np.clip((low + high - window) / 2, 0, size - window).astype(int).tolist()
    bottom, right = (np.array([top, left]) + window.astype(int)).tolist()
    return left, top, right, bottom
