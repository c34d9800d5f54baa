"""Opening and decoding a video file, whatever is wrong with it. What the file means as a clip is in `video.py`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mgseg.errors import InputError
from mgseg.files.pictures import MAX_PIXELS, check_size

# Text files and playlists, which FFmpeg would draw or follow.
_NOT_CLIPS = {"tty", "bin", "xbin", "adf", "idf", "concat", "hls", "dash", "imf", "sdp", "lavfi"}
# Containers whose header promises a length; in others the length is guessed from the data itself.
_PROMISING = {"mov", "matroska", "avi"}

_T = TypeVar("_T")


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its first video stream.

    Raises:
        InputError: no such file, not a video, no video stream, or frames of an absurd size.
    """
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    try:
        container = av.open(f"file:{path}")  # "file:" keeps a name like "a:b.mp4" from being taken for a protocol
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise _not_a_video(path, error) from error
    with container:
        if container.format.name in _NOT_CLIPS:
            raise InputError(f"{path} is not a video")
        if not container.streams.video:
            raise InputError(f"{path} has no video stream", "a cut file may have lost it")
        stream = container.streams.video[0]
        if not stream.codec_context:
            raise InputError(f"{path} is damaged, or of a codec that this build of FFmpeg does not know")
        check_size(path, stream.codec_context.width, stream.codec_context.height)
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.thread_type = "AUTO"
        yield container, stream


def _not_a_video(path: Path, error: Exception) -> InputError:
    if isinstance(error, PermissionError):
        return InputError(f"{path} may not be read")
    with path.open("rb") as file:
        start = file.read(12)
    if not start:
        return InputError(f"{path} is empty")
    if start[4:8] == b"ftyp":
        return InputError(
            f"{path} is a cut MP4: its index (moov), written last, is missing, so nothing in it can be found",
            "copy or record it again; some tools rebuild the index from a whole file of the same camera",
        )
    return InputError(f"{path} is not a video that can be read")


def first_sound(container: InputContainer) -> AudioStream | None:
    """The first audio stream of a codec that this build of FFmpeg knows."""
    return next((stream for stream in container.streams.audio if stream.codec_context), None)


class Times:
    """Seconds of each frame since the first, strictly growing even where a file's own times are not."""

    def __init__(self, stream: VideoStream) -> None:
        self.tick = stream.time_base or 1 / rate_of(stream)
        self.step = 1 / rate_of(stream)
        self.origin: int | None = None
        self.last: Fraction | None = None

    def __call__(self, raw: VideoFrame) -> Fraction:
        if raw.pts is not None and self.origin is None and self.last is None:
            self.origin = raw.pts
        if raw.pts is None or self.origin is None:
            time = Fraction(0) if self.last is None else self.last + self.step
        else:
            time = (raw.pts - self.origin) * self.tick
        if self.last is not None and time <= self.last:
            time = self.last + self.tick
        self.last = time
        return time


def rate_of(stream: VideoStream) -> Fraction:
    """Mean frames a second; 25 where the file does not say."""
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return Fraction(rate) if rate else Fraction(25)


def promised_seconds(container: InputContainer, stream: VideoStream) -> Fraction:
    """Length of the video stream by the container's header; 0 where the header makes no promise."""
    names = set(container.format.name.split(","))
    if not names & _PROMISING:
        return Fraction(0)
    if "avi" in names:
        return stream.frames / rate_of(stream)
    if "matroska" in names:
        match = re.match(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
        if match:
            return int(match[1]) * 3600 + int(match[2]) * 60 + Fraction(match[3])
        only_stream = len(container.streams) == 1  # otherwise the sound may be longer
        return Fraction(container.duration or 0, av.time_base) if only_stream else Fraction(0)
    return (stream.duration or 0) * Fraction(stream.time_base or 0)


def decode(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield every frame that decodes, then raise InputError if the clip held fewer than it promised."""
    promised = promised_seconds(container, stream)
    tick, step = Fraction(stream.time_base or 0), 1 / rate_of(stream)
    count = broken = 0
    size: tuple[int, int] | None = None  # later frames of another size are scaled, as ffmpeg does
    first: int | None = None
    end = longest = Fraction(0)
    packets = container.demux(stream)
    following = _next_packet(packets)
    while (packet := following) is not None:
        following = _next_packet(packets)
        is_last = following is None or not following.size  # an empty one asks the decoder for what it still holds
        cut_short = bool(packet.is_corrupt and (promised or is_last))
        try:
            frames = [] if cut_short else packet.decode()
        except av.FFmpegError:
            frames, cut_short = [], True
        broken += cut_short
        if packet.pts is not None and not cut_short:
            first = packet.pts if first is None else min(first, packet.pts)
            duration = (packet.duration or 0) * tick
            longest = max(longest, duration)
            end = max(end, (packet.pts - first) * tick + duration)
        for frame in frames:
            count += 1
            size = size or (frame.width, frame.height)
            yield frame if (frame.width, frame.height) == size else frame.reformat(*size)
    slack = max(longest, 3 * step / 2)  # the last frame's duration is often missing
    if count and (broken or end + slack < promised):
        total = stream.frames or round(promised / step) or count + broken
        raise InputError(
            f"{path} is cut or damaged: {count} of {max(total, count + 1)} frames could be read",
            "copy or record it again to get the rest",
        )
    if not count:
        raise InputError(f"{path} holds no frame that can be decoded")


def _next_packet(packets: Iterator[_T]) -> _T | None:
    """The next packet; a container that breaks off ends like one that is over."""
    try:
        return next(packets, None)
    except (av.FFmpegError, OSError):
        return None


def seek(container: InputContainer, stream: VideoStream, pts: int) -> bool:
    """Go to the keyframe before a time stamp; False where the file cannot be searched."""
    try:
        container.seek(pts, stream=stream)
    except (av.FFmpegError, OSError):
        return False
    return True


def to_rgb(raw: VideoFrame) -> NDArray[np.uint8]:
    """Convert to an upright uint8 (H, W, 3) RGB array, applying the rotation the file asks for."""
    image = np.asarray(raw.to_ndarray(format="rgb24"), np.uint8)
    turns = round(raw.rotation / 90) % 4  # degrees counterclockwise, as np.rot90 turns
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
