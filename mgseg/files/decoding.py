"""Opening and decoding of video files, also damaged ones. `video.py` makes clips of them."""

import re
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mgseg.errors import InputError
from mgseg.files.names import STDIN, in_words, reads_once
from mgseg.files.pictures import MAX_PIXELS, check_size
from mgseg.files.times import rate_of
from mgseg.files.truncation import is_cut

# Text files and playlists, which FFmpeg would draw or follow.
_NOT_CLIPS = {"tty", "bin", "xbin", "adf", "idf", "concat", "hls", "dash", "imf", "sdp", "lavfi"}
# Containers whose header promises a length; in others the length is guessed from the data itself.
_PROMISING = {"mov", "matroska"}

_COVERS = Disposition.attached_pic | Disposition.timed_thumbnails
_DEFAULT_BONUS = 5_000_000  # what ffmpeg adds to a stream's pixels or channels if it is marked as the default

_PIPE_HINT = "pipe it as -f matroska or -f mpegts: an MP4 has its index at the end, and a pipe cannot be read backwards"

_T = TypeVar("_T")


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and the video stream that is its clip.

    Raises:
        InputError: no such file, not a video, no video stream, or frames of an absurd size.
    """
    try:
        container = _open(path)
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise _not_a_video(path, error) from error
    with container:
        if container.format.name in _NOT_CLIPS:
            raise InputError(f"{in_words(path)} is not a video")
        stream = choose_video(path, container)
        check_size(path, stream.codec_context.width, stream.codec_context.height)
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.thread_type = "AUTO"
        yield container, stream


def _open(path: Path) -> InputContainer:
    """Open a file, a named pipe or the standard input."""
    if path != STDIN:
        return av.open(f"file:{path}")  # "file:" keeps a name like "a:b.mp4" from being taken for a protocol
    if sys.stdin.isatty():
        raise InputError(
            "no data is piped into the standard input", "for example: ffmpeg -i CLIP -f matroska - | mgseg segment -"
        )
    options = {"fd": str(sys.stdin.fileno()), "protocol_whitelist": "fd,file"}  # a playlist must not lead elsewhere
    return av.open("fd:", "r", options=options)


def choose_video(path: Path, container: InputContainer) -> VideoStream:
    """Choose the video stream as ffmpeg does: no cover or still, with frames, the default one or else the largest."""
    streams = [stream for stream in container.streams.video if not stream.disposition & _COVERS]
    if not container.streams.video:
        raise InputError(
            f"{in_words(path)} has no video stream",
            "if it is a copy, copy it again: an incomplete file may lack the stream",
        )
    if not streams:
        raise InputError(f"{in_words(path)} has no video stream, only a cover picture")
    known = [stream for stream in streams if stream.codec_context]
    if not known:
        raise InputError(
            f"{path} is damaged, or its codec is unknown to this build of FFmpeg", "convert it with another program"
        )

    def score(stream: VideoStream) -> tuple[bool, bool, int]:
        area = stream.codec_context.width * stream.codec_context.height
        return (
            stream.frames != 1,
            stream.frames > 0,
            area + _DEFAULT_BONUS * bool(stream.disposition & Disposition.default),
        )

    return max(known, key=score)  # the first of equals


def choose_sound(container: InputContainer) -> AudioStream | None:
    """Choose the audio stream that ffmpeg would choose: the default or else the most channels; None without any."""
    known = [stream for stream in container.streams.audio if stream.codec_context]

    def score(stream: AudioStream) -> int:
        return stream.codec_context.channels + _DEFAULT_BONUS * bool(stream.disposition & Disposition.default)

    return max(known, key=score, default=None)


def _not_a_video(path: Path, error: Exception) -> InputError:
    if isinstance(error, PermissionError):
        return InputError(f"{path} cannot be read: permission denied")
    if reads_once(path):
        return InputError(f"{in_words(path)} is empty, or not a video that can be read", _PIPE_HINT)
    with path.open("rb") as file:
        start = file.read(12)
    if not start:
        return InputError(f"{path} is empty")
    if start[4:8] == b"ftyp":
        return InputError(
            f"{path} is an incomplete MP4: its index (moov), which is written last, is missing",
            "copy or record it again; some tools can rebuild the index with an intact file of the same camera",
        )
    return InputError(f"{path} is not a video that can be read")


def promised_seconds(container: InputContainer, stream: VideoStream) -> Fraction:
    """Return the length of the video stream by the container's header; 0 if the header does not give it."""
    names = set(container.format.name.split(","))
    if not names & _PROMISING:
        return Fraction(0)
    tick = Fraction(stream.time_base or 0)
    if "matroska" not in names:
        return (stream.duration or 0) * tick
    match = re.match(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if match:
        end = int(match[1]) * 3600 + int(match[2]) * 60 + Fraction(match[3])
    else:  # of all streams together, and the sound may be longer
        end = Fraction(container.duration or 0, av.time_base) if len(container.streams) == 1 else Fraction(0)
    return max(Fraction(0), end - max(0, stream.start_time or 0) * tick)  # counted from time 0 on


def decode(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield every frame that decodes, then raise InputError if the clip held fewer than it promised.

    Frames come as they are in the file: not upright, and of whatever size.
    """
    promised = promised_seconds(container, stream)
    tick, step = Fraction(stream.time_base or 0), 1 / rate_of(stream)
    stamps = _Reordered(container, stream)
    count = broken = 0
    first: int | None = None
    end = longest = Fraction(0)
    packets = container.demux(stream)
    following = _next_packet(packets)
    while (packet := following) is not None:
        following = _next_packet(packets)
        is_last = following is None or _is_flush(following)
        if not packet.size and not _is_flush(packet):  # shows the frame before once more
            continue
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
            stamps.put(packet)
        for frame in frames:
            count += 1
            frame.pts = stamps.take(frame.pts)
            yield frame
    slack = max(longest, 3 * step / 2)  # the last frame's duration is often missing
    if not count:
        hint = _PIPE_HINT if reads_once(path) else None
        raise InputError(f"{in_words(path)} contains no frame that can be decoded", hint)
    if broken or end + slack < promised or _lacks_frames(path, container, stream, count):
        total = max(stream.frames or round(promised / step) or count + broken, count)
        found = f"{count} of {total} frames could be read" if total > count else f"{count} frames could be read"
        raise InputError(
            f"{in_words(path)} is cut or damaged: {found}", "copy or record the clip again to get the rest"
        )


class _Reordered:
    """Time stamps of frames that were coded in another order than they are shown in.

    Some containers have a time of decoding only, others are written so. Then stamps never run backward from packet to
    packet, although the stream has B-frames, and the n-th frame shown has the n-th stamp.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.applies = stream.codec_context.has_b_frames
        self.by_decoding = container.format.name in ("avi", "asf")  # their other stamps are FFmpeg's guess
        self.waiting: deque[int | None] = deque()
        self.last: int | None = None

    def put(self, packet: Any) -> None:
        """Take note of a packet that was decoded."""
        assert packet.pts is not None
        self.applies = self.applies and (self.last is None or packet.pts >= self.last)
        self.last = packet.pts
        self.waiting.append(packet.dts if self.by_decoding else packet.pts)

    def take(self, stamp: int | None) -> int | None:
        """The stamp of the next frame shown, whose own is given."""
        following = self.waiting.popleft() if self.waiting else None
        return following if self.applies and following is not None else stamp


def _lacks_frames(path: Path, container: InputContainer, stream: VideoStream, count: int) -> bool:
    """Whether a file is cut by the structure of its container; an AVI counts empty chunks as frames, too."""
    has_all = 0 < stream.frames <= count and container.format.name != "gif"  # where what is read is counted
    if reads_once(path) or has_all:
        return False
    return is_cut(path, container.format.name)


def _next_packet(packets: Iterator[_T]) -> _T | None:
    """The next packet; a container that breaks off ends like one that is over."""
    try:
        return next(packets, None)
    except (av.FFmpegError, OSError):
        return None


def _is_flush(packet: Any) -> bool:
    """Whether a packet only asks the decoder for what it still holds."""
    return not packet.size and packet.pts is None and packet.dts is None


def seek(container: InputContainer, stream: VideoStream, pts: int) -> bool:
    """Seek to the keyframe before a time stamp; returns False if the file cannot seek."""
    try:
        container.seek(pts, stream=stream)
    except (av.FFmpegError, OSError):
        return False
    return True
