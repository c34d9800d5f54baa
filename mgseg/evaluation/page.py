"""An HTML page of a report: figures, curves, and the worst objects and frames as pictures. One file, no script."""

import base64
import html
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.data.catalog import Split, VideoSequence
from mgseg.evaluation.report import FIGURES, ObjectScore, Report, flatten
from mgseg.files.masks import VOID, read_index_map
from mgseg.files.pictures import read_picture
from mgseg.files.whole_file import write_whole

WORST_OBJECTS, PICTURES_OF_EACH = 6, 4
WORST_FRAMES = 12
APART = 0.2  # of an object's frames lie between two of its worst that are shown: neighbours look the same
ZOOM, AROUND = 4.0, 1.6  # small objects are shown larger, at most so much, with so much room (1: none)
PICTURE_WIDTH = 420  # pixels
RIGHT, FALSE, MISSED = (70, 200, 120), (235, 70, 60), (70, 130, 245)  # colours, kept in STYLE too
OPACITY = 0.55

STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882}
body{font:15px/1.45 system-ui,sans-serif;max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}p.sub{opacity:.75;margin:.2rem 0 1.2rem}
.figures{display:flex;flex-wrap:wrap;gap:.7rem}.figures div{border:1px solid var(--line);border-radius:8px;
padding:.5rem .9rem}.figures b{display:block;font-size:1.5rem;font-variant-numeric:tabular-nums}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.22rem .7rem;text-align:right}
th{border-bottom:1px solid var(--line);font-weight:600}td:first-child,th:first-child{text-align:left}
tr:hover td{background:var(--soft)}svg{vertical-align:middle}polyline{fill:none;stroke:#4682f5;stroke-width:1.5}
svg rect{fill:none;stroke:var(--line)}polygon{fill:#4682f533}
.row{display:flex;flex-wrap:wrap;gap:.6rem}figure{margin:0;flex:0 1 270px}figure img{width:100%;border-radius:6px}
figcaption{font-size:.82rem;opacity:.8}i{display:inline-block;width:.8em;height:.8em;border-radius:2px;
margin:0 .25em 0 .9em}dl{display:grid;grid-template-columns:max-content auto;gap:.1rem 1rem;font-size:.85rem}
dd{margin:0;overflow-wrap:anywhere}.right{background:#46c878}.false{background:#eb463c}.missed{background:#4682f5}
"""
LEGEND = (
    '<p class="sub">Pictures are cut out around the object. Colours:<i class="right"></i>right'
    '<i class="false"></i>marked, but not the object<i class="missed"></i>the object, but not marked</p>'
)


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
    title = html.escape(f"{report.settings['dataset']} {report.settings['split']}")
    parts = [f"<h1>{title}</h1>", f'<p class="sub">{html.escape(report.settings["protocol"])}</p>']
    parts += [_figures(report), *(f"<p>Note: {html.escape(note)}</p>" for note in report.notes)]
    if report.objects:
        parts += [_table(report), *_worst_objects(report, split, results)]
        parts += _worst_frames(report, split, results)
    parts.append(_settings(report))
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    text = f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style></head><body>'
    write_whole(path, text + "\n".join(parts) + "</body></html>\n")


def _figures(report: Report) -> str:
    if not report.mean:
        return "<p>Nothing was scored.</p>"
    boxes = (f"<div>{name.replace('_', ' ')}<b>{100 * value:.1f}</b></div>" for name, value in report.mean.items())
    return f'<div class="figures">{"".join(boxes)}</div>'


def _table(report: Report) -> str:
    """A row a sequence, and below it one an object where it has several; the worst first."""
    heads = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in FIGURES)
    rows = [f"<tr><th>Sequence</th>{heads}<th>J by frame</th></tr>"]
    members: dict[str, list[ObjectScore]] = {}
    for score in report.objects:
        members.setdefault(score.sequence, []).append(score)
    for name, figures in sorted(report.sequences.items(), key=lambda item: item[1]["J&F"]):
        alone = members[name][0] if len(members[name]) == 1 else None
        rows.append(_row(f"<b>{html.escape(name)}</b>", figures, alone))
        if not alone:
            rows += [_row(f"&emsp;object {score.object_id}", score.figures, score) for score in members[name]]
    return f"<h2>Sequences, the worst first</h2><table>{''.join(rows)}</table>"


def _row(name: str, figures: dict[str, float], score: ObjectScore | None) -> str:
    cells = "".join(f"<td>{100 * figures[figure]:.1f}</td>" for figure in FIGURES)
    return f"<tr><td>{name}</td>{cells}<td>{_curve(score.j, 170, 30) if score else ''}</td></tr>"


def _curve(values: NDArray[np.float64], width: int, height: int) -> str:
    """An area over the frames, from 0 at the bottom to 1 at the top."""
    steps = np.linspace(1, width - 1, len(values)) if len(values) > 1 else np.array([1.0])
    points = [f"{x:.1f},{height - 1 - (height - 2) * y:.1f}" for x, y in zip(steps, values, strict=True)]
    area = f"1,{height - 1} {' '.join(points)} {steps[-1]:.1f},{height - 1}"
    lines = f'<polygon points="{area}"/><polyline points="{" ".join(points)}"/>'
    return f'<svg width="{width}" height="{height}"><rect width="{width}" height="{height}"/>{lines}</svg>'


def _worst_objects(report: Report, split: Split, results: Path) -> Iterator[str]:
    worst = sorted(report.objects, key=lambda score: score.figures["J&F"])[:WORST_OBJECTS]
    yield "<h2>Worst objects</h2>" + LEGEND
    for score in worst:
        name = html.escape(f"{score.sequence}, object {score.object_id}")
        yield f"<p><b>{name}</b> &ensp;J&amp;F {100 * score.figures['J&F']:.1f} &ensp;{_curve(score.j, 260, 36)}</p>"
        count = min(PICTURES_OF_EACH, len(score.frames))
        shown = np.linspace(0, len(score.frames) - 1, count).round().astype(int).tolist()
        pictures = (_figure(split, results, score, k, f"frame {score.frames[k]}") for k in shown)
        yield f'<div class="row">{"".join(pictures)}</div>'


def _worst_frames(report: Report, split: Split, results: Path) -> Iterator[str]:
    ranked = sorted((s.j[k] + s.f[k], n, k) for n, s in enumerate(report.objects) for k in range(len(s.frames)))
    shown: list[tuple[int, int]] = []
    yield '<h2>Worst frames</h2><div class="row">'
    for _, n, k in ranked:
        score = report.objects[n]
        if any(n == other and abs(k - taken) < APART * len(score.frames) for other, taken in shown):
            continue
        shown.append((n, k))
        caption = f"{score.sequence}, object {score.object_id}, frame {score.frames[k]}"
        yield _figure(split, results, score, k, caption)
        if len(shown) == WORST_FRAMES:
            break
    yield "</div>"


def _figure(split: Split, results: Path, score: ObjectScore, k: int, caption: str) -> str:
    sequence = next(sequence for sequence in split.sequences if sequence.name == score.sequence)
    picture = _draw(sequence, score, score.frames[k], results, any_id=split.single_object)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=82)
    source = "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
    caption = html.escape(f"{caption}: J {100 * score.j[k]:.1f}, F {100 * score.f[k]:.1f}")
    return f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def _draw(sequence: VideoSequence, score: ObjectScore, frame: str, results: Path, *, any_id: bool) -> Image.Image:
    """Colour what is right, false and missed of one object over its frame, grey where there is no picture."""
    truth = read_index_map(sequence.masks[frame])
    predicted = read_index_map(results / sequence.name / f"{frame}.png")
    true, marked = (m > 0 if any_id else m == score.object_id for m in (truth, predicted))
    counted = np.ones_like(true) if any_id else truth != VOID
    paths = {path.stem: path for path in sequence.frames}
    if frame in paths:
        image = read_picture(paths[frame]).astype(np.float32)
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


def _settings(report: Report) -> str:
    pairs = ((name, "unknown" if value is None else str(value)) for name, value in flatten(report.settings))
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in pairs)
    return f"<h2>How this was made</h2><dl>{rows}</dl>"
