"""Reading of annotation files in any format: detection of the format, choice of a picture."""

import json
from collections.abc import Iterator
from pathlib import Path

from mgseg.annotations.coco import read_coco
from mgseg.annotations.cvat import read_cvat, read_cvat_zip
from mgseg.annotations.frames import LabelledFrame
from mgseg.annotations.labelme import read_labelme
from mgseg.annotations.yolo import read_names, read_yolo
from mgseg.errors import InputError

ENDINGS = {".json", ".xml", ".zip", ".txt"}


def read_annotations(path: Path, size: tuple[int, int]) -> Iterator[LabelledFrame]:
    """Read the pictures of an annotation file: COCO or labelme JSON, CVAT XML or zip, YOLO text.

    Args:
        path: the file.
        size: (height, width) of the clip, for formats that do not hold it.

    Raises:
        InputError: the file has none of these formats or is damaged.
    """
    ending = path.suffix.lower()
    if ending == ".xml":
        yield from read_cvat(path)
    elif ending == ".zip":
        yield from read_cvat_zip(path)
    elif ending == ".txt":
        yield read_yolo(path, size, read_names(path))
    elif _is_labelme(path):
        yield read_labelme(path)
    else:
        yield from read_coco(path)


def find_picture(frames: list[LabelledFrame], item: str, path: Path) -> LabelledFrame:
    """Find a picture of an annotation file by its file name (with or without ending and folder) or by its number.

    Raises:
        InputError: no picture, or more than one, matches.
    """
    found = [frame for frame in frames if item in (frame.name, Path(frame.name).name, Path(frame.name).stem)]
    found = found or [frame for frame in frames if item.isdecimal() and frame.index == int(item)]
    if len(found) != 1:
        raise InputError(f"{path} contains {len(found) or 'no'} picture(s) {item!r}", f"it contains {in_short(frames)}")
    return found[0]


def in_short(frames: list[LabelledFrame]) -> str:
    """Return the first few names of pictures, for a message."""
    names = [frame.name for frame in frames]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _is_labelme(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    keys = content.keys() if isinstance(content, dict) else ()
    if "shapes" in keys:
        return True
    if "images" in keys and "annotations" in keys:
        return False
    found = ", ".join(sorted(map(str, keys))[:6]) or "no object"
    raise InputError(f"{path} is neither a labelme nor a COCO file: found the keys {found}")
