"""Writing clips: video files with exact frame times and the sound of another clip, and animated pictures."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import av
import numpy as np
from numpy.typing import NDArray

from mgseg.errors import OutputError
from mgseg.files.decoding import first_sound
from mgseg.files.encodings import VIEWING, Encoding
from mgseg.files.whole_file import cannot_write, whole_file

Image = NDArray[np.uint8]

ANIMATIONS = {".gif", ".webp"}
SUFFIXES = (*VIEWING, *sorted(ANIMATIONS))
_PLAYED = {  # sound that players expect in a file of this kind; the rest is converted
    "mp4": {"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"},
    "webm": {"opus", "vorbis"},
}
_SOUND_ENCODER = {"mp4": "aac", "matroska": "aac", "webm": "libopus"}
_SOUND_RATE = 48000  # the one rate that both take
_PIXELS = {  # by channels and bytes of each
    (1, 1): "gray",
    (1, 2): "gray16le",
    (3, 1): "rgb24",
    (3, 2): "rgb48le",
    (4, 1): "rgba",
    (4, 2): "rgba64le",
}
_ANIMATION_PIXELS = 9 * 10**7  # an animated picture is made in memory: about 1 GB, 220 frames of 854x480


class Writer(Protocol):
    """What both kinds of writers do; used as a context manager, they finish the file or leave none."""

    def write(self, image: Image, time: Fraction) -> None:
        """Add a frame: (H, W, 3) RGB at a time in seconds, later than the one before."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def check_suffix(path: Path) -> None:
    """Refuse a file name whose kind cannot be written, in general or by this build of FFmpeg."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise OutputError(f"cannot write {path}: its kind is not known", "known are " + ", ".join(SUFFIXES))
    if suffix in VIEWING:
        VIEWING[suffix].find_encoder(path)


def check_length(path: Path, num_pixels: int) -> None:
    """Refuse an animation that memory should not hold; `num_pixels` counts those of all frames."""
    if path.suffix.lower() in ANIMATIONS and num_pixels > _ANIMATION_PIXELS:
        limit = f"more than {_ANIMATION_PIXELS:,} pixels in all its frames"
        raise OutputError(f"{path} would be too large an animation: {limit}", "use .mp4, or --end for a part")


class _WholeFile:
    """Writes `path.part` and gives it its name when all went well; on an error no file is left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._exits = ExitStack()
        self.part = self._exits.enter_context(whole_file(path))
        self._exits.push(self._finish)
        try:
            self.part.touch()  # libav opens it only with the first packet
        except OSError as error:
            raise cannot_write(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.__exit__(kind, error, trace)

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.finish(whole=kind is None)
        except (av.FFmpegError, OSError) as problem:
            if kind is None:
                raise cannot_write(self.path, problem) from problem

    def finish(self, whole: bool) -> None:
        raise NotImplementedError


class VideoWriter(_WholeFile):
    """Writes a video file frame by frame.

    Args:
        path: where to; `path.part` exists meanwhile.
        size: (height, width) of the frames. Odd sizes grow by one repeated row or column, where the encoding has
            colours at half the resolution.
        rate: mean frames a second.
        time_base: seconds per tick, of which the frames' times are multiples.
        pixel_aspect: a pixel's width divided by its height.
        sound: a clip whose sound is copied, or converted where the file cannot hold it as it is.
        sound_from: seconds in that file's own time that become 0 here.
        encoding: how pictures are stored; by the path's suffix (.mp4, .mkv, .webm) where it is not given.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        rate: Fraction,
        time_base: Fraction,
        *,
        pixel_aspect: Fraction = Fraction(1),
        sound: Path | None = None,
        sound_from: Fraction = Fraction(0),
        encoding: Encoding | None = None,
    ) -> None:
        if encoding is None:
            check_suffix(path)
            encoding = VIEWING[path.suffix.lower()]
        super().__init__(path)
        self.encoding = encoding
        self.rate, self.time_base = rate, time_base
        self.last = Fraction(-1)
        try:
            self.container = av.open(f"file:{self.part}", "w", format=encoding.container)
            self.stream: Any = self._add_pictures(size, pixel_aspect)
            self.sound = _Sound(sound, self.container, sound_from) if sound else None
        except (av.FFmpegError, OSError) as error:
            self.part.unlink(missing_ok=True)
            raise cannot_write(self.path, error) from error

    def _add_pictures(self, size: tuple[int, int], pixel_aspect: Fraction) -> Any:
        name, options = self.encoding.find_encoder(self.path)
        stream: Any = self.container.add_stream(name, rate=self.rate, options=options)
        pixels = av.VideoFormat(self.encoding.pixels)
        self.needs_even = pixels.chroma_width(2) == 1
        stream.height, stream.width = (side + side % 2 * self.needs_even for side in size)
        stream.pix_fmt = pixels.name
        context = stream.codec_context
        context.time_base = self.time_base
        context.sample_aspect_ratio = pixel_aspect
        context.color_primaries = context.color_trc = context.colorspace = 1  # BT.709, said rather than guessed
        return stream

    def write(self, image: NDArray[np.uint8] | NDArray[np.uint16], time: Fraction) -> None:
        """Add a frame at a time in seconds, later than the one before.

        Args:
            image: uint8 or uint16 (H, W, 3) RGB, (H, W, 4) RGBA with straight alpha, or (H, W) grey.
            time: seconds.
        """
        height, width = image.shape[:2]
        values: Any = image
        if self.needs_even and (height % 2 or width % 2):
            values = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0))[: image.ndim], mode="edge")
        given = _PIXELS[image.shape[2] if image.ndim == 3 else 1, image.dtype.itemsize]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(values), format=given)
        frame = frame.reformat(format=self.encoding.pixels, dst_colorspace="ITU709")
        frame.pts, frame.time_base = round(time / self.time_base), self.time_base
        self.last = time
        try:
            self.container.mux(self.stream.encode(frame))
            if self.sound:
                self.sound.copy_until(time)
        except (av.FFmpegError, OSError) as error:
            raise cannot_write(self.path, error) from error

    def finish(self, whole: bool) -> None:
        """Write what the encoder still holds and close the file."""
        try:
            if whole:
                self.container.mux(self.stream.encode(None))
                if self.sound:
                    self.sound.copy_until(self.last + 1 / self.rate)
                    self.sound.finish()
        finally:
            if self.sound:
                self.sound.source.close()
            self.container.close()


class _Sound:
    """Brings the sound of a clip into a file that is being written, packet by packet."""

    def __init__(self, path: Path, target: av.container.OutputContainer, origin: Fraction) -> None:
        self.source = av.open(f"file:{path}")
        self.target, self.origin = target, origin
        sound = first_sound(self.source)
        assert sound is not None
        self.input = sound
        kind = target.format.name
        self.copies = self.input.codec_context.codec.canonical_name in _PLAYED.get(kind, target.supported_codecs)
        self.output: Any
        if self.copies:
            self.output = target.add_stream_from_template(self.input)
        else:
            self.output = target.add_stream(_SOUND_ENCODER[kind], rate=_SOUND_RATE)
            self.output.layout = "stereo"
        self.samples: int | None = None
        self.frames: list[Any] = []  # of the newest packet
        self.packets = self._read()
        self.next = next(self.packets, None)

    def _read(self) -> Iterator[Any]:
        try:
            packet: Any
            for packet in self.source.demux(self.input):
                if packet.pts is not None and packet.pts * packet.time_base >= self.origin:
                    yield packet
        except (av.FFmpegError, OSError):  # a cut clip has sound as far as it goes
            return

    def copy_until(self, time: Fraction) -> None:
        """Write the sound that begins before a time, seconds from the origin."""
        while self.next is not None and self.next.pts * self.next.time_base - self.origin < time:
            self._write(self.next)
            self.next = next(self.packets, None)

    def _write(self, packet: Any) -> None:
        if self.copies:
            packet.pts -= round(self.origin / packet.time_base)
            packet.dts = packet.pts
            packet.stream = self.output
            self.target.mux(packet)
            return
        with suppress(av.FFmpegError):  # damaged: what was heard last stands in for it, and the rest keeps its time
            self.frames = packet.decode()
        for frame in self.frames:  # counted in samples: the source's ticks may be too coarse for the encoder
            if self.samples is None:
                self.samples = round((packet.pts * packet.time_base - self.origin) * frame.sample_rate)
            frame.pts, frame.time_base = self.samples, Fraction(1, frame.sample_rate)
            self.samples += frame.samples
            self.target.mux(self.output.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        if not self.copies:
            self.target.mux(self.output.encode(None))


class AnimationWriter(_WholeFile):
    """Writes an animated picture (.gif, .webp), which is made in memory when all frames are there.

    Args:
        path: where to.
        rate: mean frames a second, for the last frame's time on show.

    Raises:
        OutputError: it cannot be written or grows beyond what memory should hold.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        super().__init__(path)
        self.rate = rate
        self.frames: list[Image] = []
        self.times: list[Fraction] = []

    def write(self, image: Image, time: Fraction) -> None:
        """Add a frame: uint8 (H, W, 3) RGB at a time in seconds, later than the one before."""
        self.frames.append(image)
        self.times.append(time)
        check_length(self.path, len(self.frames) * image.shape[0] * image.shape[1])

    def finish(self, whole: bool) -> None:
        """Write the file."""
        if not whole:
            return
        from imageio.v3 import imwrite

        suffix = self.path.suffix.lower()
        tick = 10 if suffix == ".gif" else 1  # milliseconds
        ends = [*self.times[1:], self.times[-1] + 1 / self.rate]
        marks = [round((time - self.times[0]) * 1000 / tick) for time in [*self.times, ends[-1]]]
        durations = [max(1, after - before) * tick for before, after in pairwise(marks)]
        options: dict[str, Any] = {"plugin": "pillow", "extension": suffix, "duration": durations, "loop": 0}
        self.part.write_bytes(imwrite("<bytes>", np.stack(self.frames), **options))
