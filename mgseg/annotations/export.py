"""Conversion of a folder of masks, from mgseg or another tool, to annotation files."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mgseg.annotations.frames import AnnotationWriter, Clip
from mgseg.annotations.table import find_writer
from mgseg.errors import InputError, OutputError
from mgseg.files.masks import object_ids, read_index_map
from mgseg.files.pictures import list_pictures
from mgseg.files.video import read_frames

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ExportResult:
    """Result of `export_masks`.

    Attributes:
        num_frames: masks read.
        object_ids: found in any of them.
    """

    num_frames: int
    object_ids: tuple[int, ...]


def export_masks(
    masks: str | Path,
    wanted: Mapping[str, str | Path],
    *,
    names: Mapping[int, str] | None = None,
    clip: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportResult:
    """Convert a folder of masks to annotation files.

    Args:
        masks: folder of index maps named like the frames, such as `mgseg segment` writes.
        wanted: path of the file or folder for each format, see `table.FORMATS`.
        names: name of each object id; others are called "object N".
        clip: the video or folder of pictures that the masks belong to. Its frames are written where a format wants
            them: beside labelme's files, and into YOLO's images/train.
        overwrite: replace files that are there.
        progress: called with the number of masks done and of all.

    Raises:
        InputError: a mask cannot be read or differs in size, or has no frame in the clip.
        OutputError: a file exists, is also an input, or cannot be written.
    """
    folder = Path(masks)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of masks", "give the folder of masks that mgseg segment wrote")
    paths = list_pictures(folder)
    first = read_index_map(paths[0])
    size = (first.shape[0], first.shape[1])
    target = Clip(folder.name, size, names or {}, len(paths))
    found: set[int] = set()
    with ExitStack() as exits:
        writers = [
            exits.enter_context(_open(name, Path(path), target, folder, overwrite)) for name, path in wanted.items()
        ]
        for done, (index, path, frame) in enumerate(_pairs(paths, Path(clip) if clip else None), start=1):
            mask = read_index_map(path)
            if mask.shape != size:
                raise InputError(f"{path} is {mask.shape[1]}x{mask.shape[0]}, {paths[0]} is {size[1]}x{size[0]}")
            found.update(object_ids(mask))
            for writer in writers:
                writer.add(index, path.stem, mask)
                if frame is not None:
                    writer.add_picture(path.stem, frame)
            if progress:
                progress(done, len(paths))
    return ExportResult(len(paths), tuple(sorted(found)))


def _open(name: str, path: Path, target: Clip, masks: Path, overwrite: bool) -> AnnotationWriter:
    make = find_writer(name, path)
    if path.resolve() == masks.resolve():
        raise OutputError(f"{path} is an input of this command and would be overwritten", "choose another path")
    taken = any(path.iterdir()) if path.is_dir() else path.exists()
    if taken and not overwrite:
        raise OutputError(
            f"{path} {'already contains files' if path.is_dir() else 'already exists'}", "replace it with --overwrite"
        )
    return make(path, target)


def _pairs(paths: list[Path], clip: Path | None) -> Iterator[tuple[int, Path, NDArray[np.uint8] | None]]:
    """Yield number of the frame, mask and, where a clip is given, picture."""
    if clip is None:
        numbered = all(path.stem.isdecimal() for path in paths)
        yield from ((int(path.stem) if numbered else index, path, None) for index, path in enumerate(paths))
        return
    waiting = {path.stem: path for path in paths}
    for frame in read_frames(clip):
        path = waiting.pop(frame.name, None)
        if path is not None:
            yield frame.index, path, frame.image
    if waiting:
        raise InputError(f"{clip} has no frame that belongs to the mask {next(iter(waiting.values()))}")
