"""A video file as a clip: frames forward from one decoding, backward from several."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mgseg.errors import InputError
from mgseg.files.decoding import choose_sound, decode, open_video, promised_seconds, seek
from mgseg.files.frame import ClipInfo, Frame, frames_at_once
from mgseg.files.names import in_words, reads_once
from mgseg.files.times import rate_of, timeline
from mgseg.files.upright import fit, is_hdr, to_rgb, turn_of


class VideoFile:
    """A video file that is open, with its first frame decoded.

    Args:
        path: the file.
        container: as `open_video` gives it, and open as long as this is used.
        stream: as `open_video` gives it.

    Raises:
        InputError: the file contains no frame.
    """

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream) -> None:
        frames = decode(path, container, stream)
        first = next(frames)
        self.info = _describe(path, container, stream, first)
        self._first_decoding: _Decoding | None = _Decoding(container, stream, chain([first], frames))

    def frames(self, start: int | Fraction = 0, end: int | Fraction | None = None) -> Iterator[Frame]:
        """Read frames one after another, see `read_frames`."""
        for stamp, raw, stream in self._between(start, end):
            image, own_size = self._upright(raw, stream)
            yield Frame(stamp.number, stamp.time, image, f"{stamp.number:05d}", own_size)

    def backward(self, start: int | Fraction, before: int) -> Iterator[Frame]:
        """Read frames from `before - 1` down to `start`, see `read_backward`."""
        wanted = []
        for stamp, raw, stream in self._between(start, before):
            wanted.append(stamp._replace(checksum=_checksum(self._upright(raw, stream)[0])))
        chunk = frames_at_once(self.info)
        for stop in range(len(wanted), 0, -chunk):
            part = wanted[max(0, stop - chunk) : stop]
            images = self._read_part(part, seeking=True) or self._read_part(part, seeking=False)
            if images is None:
                hint = "convert it first: ffmpeg -i CLIP -c:v ffv1 NEW.mkv"
                raise InputError(f"{self.info.path} decodes differently at each reading", hint)
            while images:
                stamp = part[len(images) - 1]
                image, own_size = images.pop()
                yield Frame(stamp.number, stamp.time, image, f"{stamp.number:05d}", own_size)

    @contextmanager
    def _decoding(self) -> Iterator["_Decoding"]:
        """Decode from the first frame on: what is open already, or else the file opened again."""
        if self._first_decoding:
            decoding, self._first_decoding = self._first_decoding, None
            yield decoding
            return
        if self.info.reads_once:
            raise InputError(f"{in_words(self.info.path)} can be read only once", "save it to a file first")
        with open_video(self.info.path) as (container, stream):
            yield _Decoding(container, stream, decode(self.info.path, container, stream))

    def _between(
        self, start: int | Fraction, end: int | Fraction | None
    ) -> Iterator[tuple["_Stamp", VideoFrame, VideoStream]]:
        with self._decoding() as (container, stream, frames):
            times = timeline(container, stream)
            for number, raw in enumerate(frames):
                time = times(raw.pts, raw.duration)
                if end is not None and (number if isinstance(end, int) else time) >= end:
                    return
                if (number if isinstance(start, int) else time) >= start:
                    yield _Stamp(number, time, raw.pts), raw, stream

    def _upright(self, raw: VideoFrame, stream: VideoStream) -> "_Sized":
        """A frame as it is shown, uint8 (H, W, 3) RGB, and its own size if that is not the clip's."""
        image = to_rgb(raw, hdr=self.info.is_hdr)
        size, own_size = (self.info.height, self.info.width), (image.shape[0], image.shape[1])
        if own_size == size:
            return image, None
        aspect = _pixel_aspect(stream.codec_context.sample_aspect_ratio, raw)
        return fit(image, size, aspect / self.info.pixel_aspect), own_size

    def _read_part(self, part: list["_Stamp"], *, seeking: bool) -> list["_Sized"] | None:
        """Decode consecutive frames, from the keyframe before them or from the start; None if they are not found.

        Some decoders give other pictures after a seek, so there each one is compared with what came the first time.
        """
        path, first = self.info.path, part[0].pts
        images: list[_Sized] = []
        with open_video(path) as (container, stream):
            if seeking and (first is None or not seek(container, stream, first)):
                return None
            try:
                for number, raw in enumerate(decode(path, container, stream)):
                    if seeking and (raw.is_corrupt or raw.pts is None or (number == 0 and raw.pts > (first or 0))):
                        return None
                    wanted = part[len(images)]
                    if raw.pts == wanted.pts if seeking else number == wanted.number:
                        images.append(self._upright(raw, stream))
                        if seeking and _checksum(images[-1][0]) != wanted.checksum:
                            return None
                    if len(images) == len(part):
                        return images
            except InputError:  # a damaged file may end elsewhere after a seek
                return None
        return None


def _checksum(image: NDArray[np.uint8]) -> int:
    return zlib.crc32(image.data)


_Sized = tuple[NDArray[np.uint8], tuple[int, int] | None]


class _Decoding(NamedTuple):
    """A file that is open, and its frames from the first on."""

    container: InputContainer
    stream: VideoStream
    frames: Iterator[VideoFrame]


class _Stamp(NamedTuple):
    """Where a frame is: its number, its seconds, the file's own time stamp if it has one, and what it looks like."""

    number: int
    time: Fraction
    pts: int | None
    checksum: int | None = None


def _describe(path: Path, container: InputContainer, stream: VideoStream, first: VideoFrame) -> ClipInfo:
    rate = rate_of(stream)
    time_base = Fraction(stream.time_base or 1 / rate)
    turn = turn_of(first)
    estimate = round(promised_seconds(container, stream) * rate)
    width, height = (first.height, first.width) if turn.transposed else (first.width, first.height)
    return ClipInfo(
        path=path,
        width=width,
        height=height,
        num_frames=min(filter(None, (stream.frames, estimate)), default=None),  # an MP4 may hide frames it counts
        rate=rate,
        time_base=time_base,
        is_counted=0 < stream.frames == estimate,
        pixel_aspect=_pixel_aspect(stream.sample_aspect_ratio, first),
        first_time=(first.pts or 0) * time_base,
        has_audio=choose_sound(container) is not None,
        is_turned=any(turn),
        is_hdr=is_hdr(stream),
        reads_once=reads_once(path),
    )


def _pixel_aspect(aspect: Fraction | None, raw: VideoFrame) -> Fraction:
    """Width divided by height of an upright frame's pixels; `aspect`: of the frame as it is in the file."""
    aspect = Fraction(aspect or 1)
    return 1 / aspect if turn_of(raw).transposed else aspect
