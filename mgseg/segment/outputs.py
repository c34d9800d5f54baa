"""What a segmented clip leaves behind: masks, an overlay, scores, cut-outs. Checked before, written whole."""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.errors import OutputError
from mgseg.files.masks import DAVIS_PALETTE, read_index_map, write_mask
from mgseg.files.overlay import cut_out, draw_overlay
from mgseg.files.pictures import write_png
from mgseg.files.video import ClipInfo, Frame
from mgseg.files.video_writer import ANIMATIONS, AnimationWriter, VideoWriter, Writer, check_suffix


@dataclass(frozen=True)
class Outputs:
    """What to write; None for what is not wanted. File names are the frames' names.

    Args:
        masks: folder of indexed PNGs.
        overlay: video (.mp4, .mkv, .webm) or animation (.gif, .webp) of the clip with coloured objects.
        scores: folder with a folder for each object id, of 8-bit grey PNGs: probability times 255.
        cut_outs: folder of PNGs of the objects on transparent ground.
        overwrite: write into folders that hold pictures, and over an overlay.
        resume: go on from the last whole mask of an interrupted run; the overlay is drawn anew.
    """

    masks: Path | None = None
    overlay: Path | None = None
    scores: Path | None = None
    cut_outs: Path | None = None
    overwrite: bool = False
    resume: bool = False

    def check(self, *inputs: Path) -> None:
        """Refuse what would overwrite results or inputs, or cannot be written; writes nothing.

        Args:
            inputs: files and folders that are read, and must not be written to.

        Raises:
            OutputError: with the reason.
        """
        if self.overlay:
            check_suffix(self.overlay)
        if self.resume and not self.masks:
            raise OutputError("a run goes on from its masks, but no folder of masks is asked for")
        if self.resume and self.overwrite:
            raise OutputError("resume and overwrite exclude each other", "--overwrite begins anew")
        taken = {path.resolve(): "what is read" for path in inputs}
        for place in filter(None, (self.masks, self.overlay, self.scores, self.cut_outs)):
            if place.resolve() in taken:
                raise OutputError(f"{place} is {taken[place.resolve()]}; write elsewhere")
            taken[place.resolve()] = "the place of another result"
            if not (self.overwrite or self.resume) and _holds_results(place):
                held = "already holds masks or pictures" if place.is_dir() else "exists"
                hint = "--resume goes on with an interrupted run, --overwrite replaces files of the same name"
                raise OutputError(f"{place} {held}", hint)
        for folder in self.folders:
            there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
            if not there.is_dir():
                raise OutputError(f"cannot write into {folder}: {there} is no folder")
            if not os.access(there, os.W_OK):
                raise OutputError(f"cannot write into {folder}: no permission")

    @property
    def folders(self) -> list[Path]:
        """The folders that are written to."""
        above = self.overlay.parent if self.overlay else None
        return [folder for folder in (self.masks, self.scores, self.cut_outs, above) if folder]


@dataclass(frozen=True)
class Segmented:
    """A frame and what was found on it.

    Args:
        frame: as read.
        mask: uint8 (H, W) index map; None for a frame before the first mask.
        scores: uint8 (H, W) probability times 255 for each object id, if wanted.
    """

    frame: Frame
    mask: NDArray[np.uint8] | None
    scores: dict[int, NDArray[np.uint8]] | None = None


class ResultWriter:
    """Writes the frames of one clip to `outputs`, whose folders it makes. A context manager; on an error no overlay
    is left.

    Args:
        outputs: checked before.
        info: of the clip.
        palette: 768 bytes of the masks' colours; None for DAVIS's.
        note: what each mask's file shall carry, see `write_mask`.
    """

    def __init__(self, outputs: Outputs, info: ClipInfo, palette: bytes | None, note: str | None = None) -> None:
        self._outputs = outputs
        self._info = info
        self._palette = palette or DAVIS_PALETTE
        self._note = note
        self._exits = ExitStack()
        self._overlay: Writer | None = None
        self._overlay_start = Fraction(0)
        for folder in outputs.folders:
            _make_folder(folder)
        for place, pattern in ((outputs.masks, "*"), (outputs.cut_outs, "*"), (outputs.scores, "*/*")):
            for part in place.glob(f"{pattern}.png.part") if place else ():  # left by a run that was killed
                part.unlink(missing_ok=True)

    def write_pictures(self, item: Segmented) -> None:
        """Write mask, scores and cut-out; frames may come in any order."""
        if item.mask is None:
            return
        name = f"{item.frame.name}.png"
        if self._outputs.cut_outs:
            cut = Image.fromarray(cut_out(item.frame.image, item.mask))
            write_png(self._outputs.cut_outs / name, cut)
        if self._outputs.scores:
            for object_id, score in (item.scores or {}).items():
                folder = _make_folder(self._outputs.scores / str(object_id))
                write_png(folder / name, Image.fromarray(score))
        if self._outputs.masks:  # last: where a mask is, all of its frame is
            write_mask(self._outputs.masks / name, item.mask, self._palette, self._note)

    def read_mask(self, frame: Frame) -> NDArray[np.uint8] | None:
        """A mask written before, uint8 (H, W); None without a folder of masks."""
        return read_index_map(self._outputs.masks / f"{frame.name}.png") if self._outputs.masks else None

    def write_overlay(self, item: Segmented) -> None:
        """Add a frame to the overlay, which opens with the first; frames come in order."""
        if not self._outputs.overlay:
            return
        if self._overlay is None:
            self._overlay_start = item.frame.time
            self._overlay = self._exits.enter_context(self._open_overlay(self._outputs.overlay))
        image = item.frame.image
        if item.mask is not None:
            image = draw_overlay(image, item.mask, self._palette)
        self._overlay.write(image, item.frame.time - self._overlay_start)

    def _open_overlay(self, path: Path) -> Writer:
        info = self._info
        if path.suffix.lower() in ANIMATIONS:
            return AnimationWriter(path, info.rate)
        return VideoWriter(
            path,
            (info.height, info.width),
            info.rate,
            info.time_base,
            pixel_aspect=info.pixel_aspect,
            sound=info.path if info.has_audio else None,
            sound_from=info.first_time + self._overlay_start,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.__exit__(kind, error, trace)


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
    return folder


def _holds_results(place: Path) -> bool:
    if place.is_dir():
        return any(path.suffix.lower() == ".png" or path.name.isdecimal() for path in place.iterdir())
    return place.exists()
