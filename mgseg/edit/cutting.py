"""GrabCut: a box and strokes drawn on the page become the pixels of an object."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mgseg.edit.project import Project
from mgseg.errors import InputError
from mgseg.files.grabcut import cut_object

_MAX_POINTS = 100_000  # of all strokes of a request


def cut(project: Project, image: NDArray[np.uint8], values: dict[str, Any]) -> NDArray[np.uint8]:
    """Cut an object out of a frame and put it into the frame's mask.

    Args:
        project: whose objects and mask count.
        image: uint8 (H, W, 3), the frame.
        values: "frame", "object", and "box" [left, top, right, bottom] or null; "plus" and "minus", lists of strokes
            {"points": [[x, y], ...], "radius": r} that belong to the object and that do not.

    Returns:
        The frame's whole mask with the object, uint8 (H, W); locked objects keep their pixels.

    Raises:
        InputError: the box does not fit the frame, there are too many points, or nothing was found.
    """
    object_id, mask = int(values["object"]), project.mask(int(values["frame"]))
    if object_id not in project.objects:
        raise InputError(f"there is no object {object_id}", "add the object first")
    box = values.get("box")
    strokes = [_draw(values.get(name) or [], mask.shape) for name in ("plus", "minus")]
    start = mask == object_id
    found = cut_object(
        image,
        None if box is None else tuple(int(x) for x in box),  # type: ignore[arg-type]
        start=start if box is None and start.any() else None,
        plus=strokes[0],
        minus=strokes[1],
    )
    locked = [item.id for item in project.objects.values() if item.locked and item.id != object_id]
    found &= ~np.isin(mask, locked)
    if not found.any():
        raise InputError("no object was found there", "draw the box closer around it, or a stroke on it")
    result = np.where(start, np.uint8(0), mask)
    result[found] = object_id
    return result


def _draw(strokes: list[dict[str, Any]], size: tuple[int, ...]) -> NDArray[np.bool_] | None:
    if not strokes:
        return None
    if sum(len(stroke["points"]) for stroke in strokes) > _MAX_POINTS:
        raise InputError(f"the strokes have more than {_MAX_POINTS} points")
    picture = Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(picture)
    for stroke in strokes:
        radius = max(1.0, min(float(stroke["radius"]), 500.0))
        points = [(float(x), float(y)) for x, y in stroke["points"]]
        draw.line(points, fill=1, width=round(2 * radius))
        for x, y in (points[0], points[-1]):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    return np.asarray(picture)
