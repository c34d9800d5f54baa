"""Matte: the clip with a soft alpha channel, alpha alone, or the objects over another background.

A video (.mov ProRes, .webm VP9, .mkv FFV1, .mp4 H.264) or pictures (PNG, EXR). Colours are straight, not premultiplied.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.errors import InputError, OutputError
from mgseg.files.background import Background
from mgseg.files.encodings import ALPHA, GREY, OPAQUE, Encoding
from mgseg.files.exr import EXR, write_exr
from mgseg.files.matte import Alpha, composite
from mgseg.files.pictures import write_png
from mgseg.files.video import Frame
from mgseg.outputs.clip_video import ClipVideo
from mgseg.outputs.names import NumberedNames
from mgseg.outputs.writer import OutputWriter, Segmented, Target

_PICTURES = (".png", ".exr")


@dataclass(frozen=True)
class Matte:
    """Content of a matte, and its path.

    Args:
        path: a video by its ending (.mov, .webm, .mkv, .mp4); a folder, for PNGs named like the frames; or a pattern
            such as FOLDER/%05d.png or FOLDER/%05d.exr, for pictures named by the frames' numbers.
        alpha: how it is made.
        only: write alpha itself, in grey.
        background: write the objects over a colour ("green", "#00b140"), a picture, or "blur", the frame out of focus.
    """

    path: str | Path
    alpha: Alpha = field(default_factory=Alpha)
    only: bool = False
    background: str | Path | None = None

    def __post_init__(self) -> None:
        if self.only and self.background is not None:
            raise InputError(
                "--matte-only writes the alpha channel alone, which has no background",
                "leave out --matte-only or --background",
            )
        object.__setattr__(self, "path", Path(self.path))

    @property
    def encodings(self) -> dict[str, Encoding]:
        """The kinds of video that can hold it, by suffix."""
        return GREY if self.only else ALPHA if self.background is None else OPAQUE


class MatteWriter(OutputWriter):
    """Writes a `Matte`."""

    needs_scores = True

    def __init__(self, wanted: Matte | Path, target: Target) -> None:
        self.matte = wanted if isinstance(wanted, Matte) else Matte(wanted)
        path = Path(self.matte.path)
        kind = path.suffix.lower()
        self._names = NumberedNames(path.name, _PICTURES) if "%" in path.name else None
        super().__init__(path.parent if self._names else path, target)
        self.is_folder = bool(self._names) or not kind or path.is_dir()
        self.in_order = not self.is_folder
        self.suffix = self._names.suffix if self._names else ".png"
        encoding = None if self.is_folder else self.matte.encodings.get(kind)
        self._video = self._exits.enter_context(ClipVideo(path, target, encoding)) if encoding else None
        self._background: Background | None = None

    def check(self, *, may_replace: bool) -> None:
        """Also check the kind of file, the objects and the background."""
        if self._video:
            self._video.check()
        elif not self.is_folder:
            raise self._unknown_kind()
        elif self.suffix == ".exr":
            EXR.find_encoder(self.path)
            if not self.matte.only:
                hint = "add --matte-only, or write .png pictures"
                raise OutputError(
                    f"cannot write {self.matte.path}: EXR pictures can only store the alpha channel", hint
                )
        self.matte.alpha.check(self.target.object_ids)
        if self.matte.background is not None:
            size = (self.target.clip.height, self.target.clip.width)
            self._background = Background(self.matte.background, size)
        super().check(may_replace=may_replace)

    def _unknown_kind(self) -> OutputError:
        path = Path(self.matte.path)
        known = ", ".join([*self.matte.encodings, "FOLDER, FOLDER/%05d.png"])
        if path.suffix.lower() == ".mp4":
            hint = f"use one of {known}, or keep .mp4 and add --matte-only or --background"
            return OutputError(f"cannot write {path}: an MP4 has no alpha channel", hint)
        return OutputError(f"cannot write {path}: unknown kind of file", f"supported: {known}")

    @property
    def settings(self) -> str:
        """Pictures of found frames are not made again, so they must be of the same kind."""
        return "" if self.in_order else f"{self.suffix} {self.matte.alpha} {self.matte.only} {self.matte.background}"

    def write(self, item: Segmented) -> None:
        """Add a frame to the video, or write its picture, unless a resumed run wrote it before."""
        if self._video:
            self._video.write(self._draw(item, self._video.is_deep), item.frame.time)
        elif item.is_found:
            return
        elif self.suffix == ".exr":
            write_exr(self._file_for(item.frame), self._alpha(item))
        else:
            write_png(self._file_for(item.frame), Image.fromarray(self._draw(item, is_deep=self.matte.only)))

    def _alpha(self, item: Segmented) -> NDArray[np.float32]:
        return self.matte.alpha.draw(item.frame.image, item.scores or {}, self.target.scale)

    def _draw(self, item: Segmented, is_deep: bool) -> NDArray[Any]:
        """The frame as it is stored, of 8 or 16 bits: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA."""
        alpha, frame = self._alpha(item), item.frame.image
        if self._background:
            return composite(frame, alpha, self._background.draw(frame, alpha))
        if is_deep:
            plane = (alpha * 65535 + 0.5).astype(np.uint16)
            return plane if self.matte.only else np.dstack([frame * np.uint16(257), plane])
        seen = (alpha * 255 + 0.5).astype(np.uint8)
        return seen if self.matte.only else np.dstack([frame, seen])

    def _stem(self, frame: Frame) -> str:
        return self._names.stem(frame.index) if self._names else super()._stem(frame)
