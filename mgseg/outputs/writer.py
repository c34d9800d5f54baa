"""Base class of the outputs: checks its path before the run, takes every frame, leaves complete files or none.

A new output is a subclass of `OutputWriter` in a file of its own, and a line in `table.Outputs`.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import OutputError
from mgseg.files.names import check_name
from mgseg.files.video import ClipInfo, Frame
from mgseg.files.whole_file import PART, make_folder


@dataclass(frozen=True)
class Target:
    """The clip and the objects that the outputs of a run are for.

    Args:
        clip: what is segmented.
        palette: 768 bytes R, G, B of each object id.
        num_frames: how many frames there will be, None if unknown.
        object_ids: ids of the objects in all given masks.
        names: names of the object ids, as annotations call them.
        scale: pixels of the clip for one of the network.
        warn: called with a sentence about what had to be left out of an output.
        given: the given masks as `mgseg segment --mask` takes them.
    """

    clip: ClipInfo
    palette: bytes
    num_frames: int | None = None
    object_ids: tuple[int, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    scale: float = 1
    warn: Callable[[str], None] = lambda text: None
    given: tuple[str, ...] = ()


@dataclass(frozen=True)
class Segmented:
    """A frame and what is known of it.

    Args:
        frame: as read.
        mask: uint8 (H, W) index map; None for a frame before the first mask.
        scores: float32 (H, W) probability in [0, 1] of each object id; None where no output needs them, and for a
            found frame whose scores were not written.
        note: how the mask was made; see `write_mask`.
        confidence: predicted J by object id; None where the weights hold no confidence model.
        cut: the frame with which a new scene begins, if that was found out now.
        is_found: an interrupted run made the mask; that run wrote the frame's other pictures, too.
    """

    frame: Frame
    mask: NDArray[np.uint8] | None
    scores: Mapping[int, NDArray[np.float32]] | None = None
    note: str | None = None
    confidence: dict[int, float] | None = None
    cut: int | None = None
    is_found: bool = False


class OutputWriter(ABC):
    """Writes one output of a run: `check`, then `write` for every frame. A context manager, which ends the files.

    Args:
        wanted: what the user asked for, usually the path; see `table.Outputs`.
        target: the clip and its palette.

    Attributes:
        path: the file or folder.
        is_folder: whether `path` is a folder of pictures rather than one file.
        in_order: whether frames must come in the clip's order, also those before the first mask. Otherwise they come
            in any order, each of them with a mask.
        needs_scores: whether `Segmented.scores` is used.
        suffix: suffix of the pictures in a folder.
    """

    is_folder: bool = True
    in_order: bool = False
    needs_scores: bool = False
    suffix: str = ".png"

    @property
    def settings(self) -> str:
        """Settings that must be the same in a resumed run; "" if the output depends on frame and mask alone."""
        return ""

    def __init__(self, wanted: Path, target: Target) -> None:
        self.path = wanted
        self.target = target
        self._exits = ExitStack()
        self._folders: set[Path] = set()

    def check(self, *, may_replace: bool) -> None:
        """Raise an OutputError if the output cannot be written, before weights are loaded; writes nothing.

        Args:
            may_replace: results of an earlier run may be replaced or added to.

        Raises:
            OutputError: the output cannot be written.
        """
        check_name(self.path)
        if not may_replace and self._holds_results():
            held = "already contains masks or pictures" if self.path.is_dir() else "already exists"
            hint = "continue an interrupted run with --resume, or replace files of the same name with --overwrite"
            raise OutputError(f"{self.path} {held}", hint)
        folder = self.path if self.is_folder else self.path.parent
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            raise OutputError(f"cannot write into {folder}: {there} is not a folder")
        if not os.access(there, os.W_OK):
            raise OutputError(f"cannot write into {folder}: no permission")

    @abstractmethod
    def write(self, item: Segmented) -> None:
        """Write the output of a frame.

        Raises:
            OutputError: the output cannot be written.
        """

    def __enter__(self) -> Self:
        """Begin; pictures that a killed run left unfinished are deleted."""
        if self.is_folder:
            for part in (*self.path.glob(f"*{self.suffix}{PART}"), *self.path.glob(f"*/*{self.suffix}{PART}")):
                part.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file; on an error none is left. Pictures that are written stay."""
        self._exits.__exit__(kind, error, trace)

    def _file_for(self, frame: Frame, *below: str) -> Path:
        """Return the path of a frame's picture; creates the folder."""
        folder = self.path.joinpath(*below)
        if folder not in self._folders:  # created once, so that a folder that is deleted later ends the run
            self._folders.add(make_folder(folder))
        return folder / (self._stem(frame) + self.suffix)

    def _stem(self, frame: Frame) -> str:
        return frame.name

    def _holds_results(self) -> bool:
        if not self.path.is_dir():
            return self.path.exists()
        return any(path.suffix.lower() == self.suffix or path.name.isdecimal() for path in self.path.iterdir())
