"""Base of the annotation formats: named objects with masks on numbered frames, written frame by frame."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.annotations.shapes import Mask
from mgseg.files.masks import object_ids
from mgseg.files.whole_file import make_folder, whole_file

_JPEG_QUALITY = 95


@dataclass(frozen=True)
class LabelledObject:
    """An object on a frame.

    Attributes:
        label: its class or name.
        track: what tells it from others of its label and follows it from frame to frame; None where a format has none.
        mask: bool (H, W).
    """

    label: str
    track: int | None
    mask: Mask


@dataclass(frozen=True)
class LabelledFrame:
    """A frame as an annotation file describes it.

    Attributes:
        name: name of the picture, as the file has it.
        index: number of the frame in its clip; None where a format has none.
        size: (height, width).
        objects: the later lies over the earlier where they overlap.
    """

    name: str
    index: int | None
    size: tuple[int, int]
    objects: tuple[LabelledObject, ...]


@dataclass(frozen=True)
class Clip:
    """Properties of a clip that a writer needs.

    Attributes:
        name: name of the file or folder.
        size: (height, width) of its frames.
        names: name of each object id; others are called "object N".
        num_frames: None if unknown.
    """

    name: str
    size: tuple[int, int]
    names: Mapping[int, str]
    num_frames: int | None = None

    def label(self, object_id: int) -> str:
        """Return the name of an object."""
        return self.names.get(object_id, f"object {object_id}")


class AnnotationWriter(ABC):
    """Writes one format. A context manager: the files appear complete when the block ends, or not at all.

    Args:
        path: file or folder.
        clip: whose masks are written.

    Attributes:
        pictures: folder where tools expect the frames as NAME.jpg; None where they do not.
    """

    pictures: Path | None = None

    def __init__(self, path: Path, clip: Clip) -> None:
        self.path, self.clip = path, clip
        self._exits = ExitStack()

    @abstractmethod
    def add(
        self, index: int, name: str, mask: NDArray[np.uint8], confidence: Mapping[int, float] | None = None
    ) -> None:
        """Add the next frame.

        Args:
            index: its number in the clip.
            name: name of its picture, without an ending.
            mask: uint8 (H, W) of object ids, 0 background, 255 void, which counts as background.
            confidence: predicted J in [0, 1] by object id, where it is known.
        """

    @abstractmethod
    def finish(self) -> None:
        """Write everything that `add` has not written yet."""

    def add_picture(self, name: str, frame: NDArray[np.uint8]) -> None:
        """Write a frame, uint8 (H, W, 3) RGB, if tools for this format need the picture; otherwise do nothing."""
        if self.pictures:
            with whole_file(make_folder(self.pictures) / f"{name}.jpg") as part:
                Image.fromarray(frame).save(part, "JPEG", quality=_JPEG_QUALITY)

    def scratch(self) -> IO[str]:
        """Open a temporary text file, for parts that `finish` joins."""
        return self._exits.enter_context(TemporaryFile("w+", encoding="utf-8"))

    def objects(self, mask: NDArray[np.uint8]) -> list[tuple[int, Mask]]:
        """Split a mask into its objects: id and bool (H, W) of each."""
        return [(number, mask == number) for number in object_ids(mask)]

    def __enter__(self) -> Self:
        return self

    def _end(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.finish()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.push(self._end)  # the last in is the first out
        self._exits.__exit__(kind, error, trace)
