"""Masks from a matte video of the clip, read frame by frame; only one is held in memory."""

import zlib
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import InputError
from mgseg.files.mask_video import read_mattes
from mgseg.files.names import in_words
from mgseg.files.video import ClipInfo, probe
from mgseg.segment.mask_sources import FileSource

Mask = NDArray[np.uint8]


class VideoMasks:
    """The masks of a video that goes along with the clip: its frame N is of the clip's frame N. It is read once.

    Args:
        source: the video, and the number that its object shall have; 1 by default.
        info: properties of the clip.
        fit: makes a mask of the clip's size, or refuses it.
        is_whole: all of its frames are wanted, so that it must be as long as the clip.

    Raises:
        InputError: it is no matte, of another size, or has another number of frames than the clip.
    """

    def __init__(
        self, source: FileSource, info: ClipInfo, fit: Callable[[Mask, str], Mask], *, is_whole: bool = True
    ) -> None:
        self.object_id = source.object_id or 1
        self._source, self._fit = source, fit
        own = probe(source.path)
        counts = own.num_frames, info.num_frames
        if is_whole and own.is_counted and info.is_counted and counts[0] != counts[1]:
            found = f"the mask {source} has {counts[0]} frames, {in_words(info.path)} has {counts[1]}"
            raise InputError(found, "cut both to the same frames, or use one frame of the mask: --mask-from N")
        self._frames: Iterator[NDArray[np.uint8]] = read_mattes(source.path)
        self._number = -1  # of the frame that was read last
        self._first = self._read(0)

    @property
    def checksum(self) -> int:
        """Of the file."""
        value = 0
        with self._source.path.open("rb") as file:
            while data := file.read(1 << 20):
                value = zlib.crc32(data, value)
        return value

    def at(self, number: int) -> Mask:
        """The mask of a frame, uint8 (H, W); frames are asked for in order.

        Raises:
            InputError: the video has no such frame.
        """
        if number == 0:
            return self._first
        while self._number < number - 1:
            self._next(number)
        return self._read(number)

    def _read(self, number: int) -> Mask:
        matte = self._next(number)
        mask = (matte >= 128).view(np.uint8) * np.uint8(self.object_id)
        return self._fit(mask, f"the mask {self._source}")

    def _next(self, number: int) -> NDArray[np.uint8]:
        matte = next(self._frames, None)
        if matte is None:
            raise InputError(f"the mask {self._source} ends before frame {number}")
        self._number += 1
        return matte
