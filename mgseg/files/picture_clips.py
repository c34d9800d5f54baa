"""Clips made of pictures: a folder of pictures, or an animation that FFmpeg cannot read."""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, ImageSequence

from mgseg.errors import InputError
from mgseg.files.frame import ClipInfo, Frame, frames_at_once
from mgseg.files.names import same_form
from mgseg.files.pictures import (
    OTHER_PICTURES,
    PICTURE_KINDS,
    UNREADABLE,
    check_size,
    is_indexed,
    is_turned,
    list_pictures,
    read_picture,
    read_size,
)

FOLDER_RATE = Fraction(24)  # pictures carry no times; DAVIS is shown at 24 a second


class PictureFolder:
    """A folder of pictures, in natural order.

    Raises:
        InputError: it holds none, the first cannot be read, two have the same name, or one is no frame of the clip: a
            mask that was left there, a thumbnail.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = list_pictures(folder)
        twice = [stem for stem, count in Counter(same_form(path.stem) for path in self._paths).items() if count > 1]
        if twice:
            hint = "if one of them is a mask, move the masks to a folder of their own"
            raise InputError(f"{folder} holds more than one picture named {twice[0]}", hint)
        _check_kinds(folder, self._paths)
        height, width = read_picture(self._paths[0]).shape[:2]
        for path in self._paths:
            size = read_size(path)
            if size and size != (height, width):
                self._check_size(path, size[::-1] if is_turned(path) else size, (height, width))
        self.info = ClipInfo(
            path=folder,
            width=width,
            height=height,
            num_frames=len(self._paths),
            rate=FOLDER_RATE,
            time_base=1 / FOLDER_RATE,
            is_counted=True,
            is_turned=is_turned(self._paths[0]),
        )

    def frames(self, start: int | Fraction = 0, end: int | Fraction | None = None) -> Iterator[Frame]:
        """Read frames one after another, see `read_frames`."""
        last = len(self._paths) if end is None else _number_at(end)
        for number in range(_number_at(start), min(last, len(self._paths))):
            yield self._read(number)

    def backward(self, start: int | Fraction, before: int) -> Iterator[Frame]:
        """Read frames from `before - 1` down to `start`, see `read_backward`."""
        for number in range(min(before, len(self._paths)) - 1, _number_at(start) - 1, -1):
            yield self._read(number)

    def _read(self, number: int) -> Frame:
        path = self._paths[number]
        image = read_picture(path)
        self._check_size(path, image.shape[:2], (self.info.height, self.info.width))
        return Frame(number, number / FOLDER_RATE, image, path.stem)

    @staticmethod
    def _check_size(path: Path, size: tuple[int, ...], first: tuple[int, int]) -> None:
        if size != first:
            found = f"{size[1]}x{size[0]}, the first is {first[1]}x{first[0]}"
            hint = "scale it, or move it to another folder if it is not a frame"
            raise InputError(f"the pictures of a clip must be of one size: {path} is {found}", hint)


def _check_kinds(folder: Path, paths: list[Path]) -> None:
    """Refuse pictures that would be left out without a word, and masks among frames of another kind."""
    unread = [path for path in folder.iterdir() if path.suffix.lower() in OTHER_PICTURES and path.name[0] != "."]
    if unread:
        hint = "convert it to PNG, or move it to another folder if it is not a frame"
        raise InputError(f"{min(unread)} is a picture in a format that mgseg cannot read", hint)
    usual = Counter(PICTURE_KINDS[path.suffix.lower()] for path in paths).most_common(1)[0][0]
    for path in paths:
        if PICTURE_KINDS[path.suffix.lower()] != usual and is_indexed(path):
            found = f"{path} is an indexed picture among frames in {usual}, and looks like a mask"
            raise InputError(
                found, "move it to another folder; if it is a frame, convert it to the format of the others"
            )


def _number_at(position: int | Fraction) -> int:
    """Number of a folder's first picture at or after a time."""
    return position if isinstance(position, int) else -int(-position * FOLDER_RATE // 1)


def is_animation(path: Path) -> bool:
    """Whether a file is a WebP picture, of one frame or more: FFmpeg decodes only those of one."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:  # the next reader reports the error
        return False
    return start[:4] == b"RIFF" and start[8:] == b"WEBP"


class Animation:
    """An animated picture.

    Raises:
        InputError: the animation cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            with Image.open(path) as picture:
                check_size(path, *picture.size)
                count = getattr(picture, "n_frames", 1)
                picture.load()
                width, height = ImageOps.exif_transpose(picture).size
                seconds = Fraction(picture.info.get("duration") or 40, 1000)
        except UNREADABLE as error:
            raise InputError(f"{path} cannot be read: {error}") from error
        self.info = ClipInfo(path, width, height, count, 1 / seconds, Fraction(1, 1000), is_counted=True)

    def frames(self, start: int | Fraction = 0, end: int | Fraction | None = None) -> Iterator[Frame]:
        """Read frames one after another, see `read_frames`."""
        number, time = 0, Fraction(0)
        try:
            with Image.open(self.info.path) as picture:
                for number, shown in enumerate(ImageSequence.Iterator(picture)):
                    if end is not None and (number if isinstance(end, int) else time) >= end:
                        return
                    image = np.array(ImageOps.exif_transpose(shown).convert("RGB"))
                    if (number if isinstance(start, int) else time) >= start:
                        yield Frame(number, time, image, f"{number:05d}")
                    time += Fraction(round(shown.info.get("duration") or 40), 1000)
        except UNREADABLE as error:
            found = f"{number} of {self.info.num_frames} frames could be read"
            raise InputError(f"{self.info.path} is cut or damaged: {found}") from error

    def backward(self, start: int | Fraction, before: int) -> Iterator[Frame]:
        """Read frames from `before - 1` down to `start`, see `read_backward`."""
        numbers = [frame.index for frame in self.frames(start, before)]
        chunk = frames_at_once(self.info)
        for stop in range(len(numbers), 0, -chunk):
            part = numbers[max(0, stop - chunk) : stop]
            yield from reversed(list(self.frames(part[0], part[-1] + 1)))
