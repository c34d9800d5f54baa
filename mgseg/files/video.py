"""Reading clips: video files (any that PyAV decodes) and folders of pictures. Writing is in `video_writer.py`."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import InputError
from mgseg.files.decoding import Times, decode, first_sound, open_video, promised_seconds, rate_of, seek, to_rgb
from mgseg.files.pictures import list_pictures, read_picture

FOLDER_RATE = Fraction(24)  # pictures carry no times; DAVIS is shown at 24 a second
BACKWARD_BYTES = 2**28  # decoded frames held at once when a clip is read backward


@dataclass(frozen=True)
class ClipInfo:
    """What a clip says about itself.

    Args:
        path: the video file or folder of pictures.
        width: of an upright frame, pixels.
        height: of an upright frame, pixels.
        num_frames: as the header promises, None if unknown.
        is_counted: whether `num_frames` is a count rather than an estimate from the duration.
        rate: mean frames a second.
        time_base: seconds per tick, of which all frame times are multiples.
        pixel_aspect: width of an upright frame's pixel divided by its height.
        first_time: seconds in the file's own time of the first frame, which `Frame.time` calls 0.
        has_audio: whether there is sound.
    """

    path: Path
    width: int
    height: int
    num_frames: int | None
    rate: Fraction
    time_base: Fraction
    is_counted: bool
    pixel_aspect: Fraction = Fraction(1)
    first_time: Fraction = Fraction(0)
    has_audio: bool = False


@dataclass(frozen=True)
class Frame:
    """One decoded picture of a clip.

    Args:
        index: place in the clip, from 0.
        time: seconds since the clip's first frame, exact.
        image: uint8 (H, W, 3) RGB, upright.
        name: the picture's stem, or the index in five digits.
    """

    index: int
    time: Fraction
    image: NDArray[np.uint8]
    name: str


def probe(clip: Path) -> ClipInfo:
    """Say what a clip is; decodes its first frame, so that a clip that yields nothing is found out here.

    Raises:
        InputError: no such file, not a video, no video stream, no frame, over MAX_PIXELS, or two pictures of a name.
    """
    if clip.is_dir():
        paths = list_pictures(clip)
        twice = [stem for stem, count in Counter(path.stem for path in paths).items() if count > 1]
        if twice:
            raise InputError(
                f"{clip} holds more than one picture named {twice[0]}", "a mask is named after its picture"
            )
        height, width = read_picture(paths[0]).shape[:2]
        return ClipInfo(clip, width, height, len(paths), FOLDER_RATE, 1 / FOLDER_RATE, is_counted=True)
    with open_video(clip) as (container, stream):
        frame = next(decode(clip, container, stream))
        rate = rate_of(stream)
        time_base = Fraction(stream.time_base or 1 / rate)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        turned = frame.rotation % 180 != 0
        return ClipInfo(
            path=clip,
            width=frame.height if turned else frame.width,
            height=frame.width if turned else frame.height,
            num_frames=stream.frames or round(promised_seconds(container, stream) * rate) or None,
            rate=rate,
            time_base=time_base,
            is_counted=stream.frames > 0,
            pixel_aspect=1 / aspect if turned else aspect,
            first_time=(frame.pts or 0) * time_base,
            has_audio=first_sound(container) is not None,
        )


def read_frames(clip: Path, start: int | Fraction = 0, end: int | Fraction | None = None) -> Iterator[Frame]:
    """Read a clip's frames one after another, upright.

    Args:
        clip: a video file or a folder of pictures (taken in natural order: 2 before 10).
        start: first frame wanted, as a frame number (int) or in seconds (Fraction).
        end: first frame not wanted, likewise; None for the clip's end.

    Raises:
        InputError: at the end, if a cut or damaged clip yielded fewer frames than it promised.
    """
    if clip.is_dir():
        yield from _read_pictures(clip, start, end)
        return
    with open_video(clip) as (container, stream):
        times = Times(stream)
        for index, raw in enumerate(decode(clip, container, stream)):
            time = times(raw)
            if end is not None and (index if isinstance(end, int) else time) >= end:
                return
            if (index if isinstance(start, int) else time) >= start:
                yield Frame(index, time, to_rgb(raw), f"{index:05d}")


def read_backward(clip: Path, start: int | Fraction, before: int) -> Iterator[Frame]:
    """Read the frames from `before - 1` down to `start` holding BACKWARD_BYTES of them at most.

    The clip is decoded once up to `before` to learn the times, then in chunks from the keyframe before each.

    Args:
        clip: a video file or a folder of pictures.
        start: the last frame to be handed out, as a frame number (int) or in seconds (Fraction).
        before: the frame number to begin in front of.
    """
    if clip.is_dir():
        paths = list_pictures(clip)
        first = start if isinstance(start, int) else _frame_at(start)
        for index in range(min(before, len(paths)) - 1, first - 1, -1):
            yield Frame(index, index / FOLDER_RATE, read_picture(paths[index]), paths[index].stem)
        return
    wanted: list[_Stamp] = []
    size = 1
    with open_video(clip) as (container, stream):
        times = Times(stream)
        for index, raw in enumerate(decode(clip, container, stream)):
            time = times(raw)
            if index >= before:
                break
            if (index if isinstance(start, int) else time) >= start:
                wanted.append(_Stamp(index, time, raw.pts))
            size = raw.width * raw.height * 3
    chunk = max(8, BACKWARD_BYTES // size)
    for stop in range(len(wanted), 0, -chunk):
        part = wanted[max(0, stop - chunk) : stop]
        images = _read_span(clip, part, seeking=True) or _read_span(clip, part, seeking=False)
        if images is None:
            raise InputError(f"{clip} does not decode the same way twice", "convert it, for instance with ffmpeg")
        while images:
            stamp = part[len(images) - 1]
            yield Frame(stamp.number, stamp.time, images.pop(), f"{stamp.number:05d}")


def _frame_at(time: Fraction) -> int:
    """Number of a folder's first picture at or after a time."""
    return -int(-time * FOLDER_RATE // 1)


def _read_pictures(folder: Path, start: int | Fraction, end: int | Fraction | None) -> Iterator[Frame]:
    paths = list_pictures(folder)
    first = start if isinstance(start, int) else _frame_at(start)
    last = len(paths) if end is None else end if isinstance(end, int) else _frame_at(end)
    size = None
    for index in range(first, min(last, len(paths))):
        image = read_picture(paths[index])
        size = size or image.shape
        if image.shape != size:
            found = f"{image.shape[1]}x{image.shape[0]}, the first {size[1]}x{size[0]}"
            raise InputError(f"the pictures of a clip must be of one size: {paths[index]} is {found}")
        yield Frame(index, index / FOLDER_RATE, image, paths[index].stem)


class _Stamp(NamedTuple):
    """Where a frame is: its number, its seconds, and the file's own time stamp, if it has one."""

    number: int
    time: Fraction
    pts: int | None


def _read_span(clip: Path, part: list[_Stamp], *, seeking: bool) -> list[NDArray[np.uint8]] | None:
    """Decode consecutive frames, from the keyframe before them or from the start; None if they are not found."""
    first = part[0].pts
    images: list[NDArray[np.uint8]] = []
    with open_video(clip) as (container, stream):
        if seeking and (first is None or not seek(container, stream, first)):
            return None
        try:
            for number, raw in enumerate(decode(clip, container, stream)):
                if seeking and (raw.is_corrupt or raw.pts is None or (number == 0 and raw.pts > (first or 0))):
                    return None
                wanted = part[len(images)]
                if raw.pts == wanted.pts if seeking else number == wanted.number:
                    images.append(to_rgb(raw))
                if len(images) == len(part):
                    return images
        except InputError:  # a damaged file may end elsewhere after a seek
            return None
    return None
