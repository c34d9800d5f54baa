"""Writing clips: video files with exact frame times and the sound of another clip, and animated pictures."""

from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import av
import numpy as np
from numpy.typing import NDArray

from mgseg.errors import OutputError
from mgseg.files.conversion import ONE_THREAD
from mgseg.files.encodings import VIEWING, Encoding
from mgseg.files.sound import UNFIT, CopiedSound
from mgseg.files.whole_file import cannot_write, whole_file

Image = NDArray[np.uint8]

ANIMATIONS = {".gif", ".webp"}
SUFFIXES = (*VIEWING, *sorted(ANIMATIONS))
_PIXELS = {  # by channels and bytes of each
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
        raise OutputError(f"cannot write {path}: unknown kind of file", "supported: " + ", ".join(SUFFIXES))
    if suffix in VIEWING:
        VIEWING[suffix].find_encoder(path)


def check_length(path: Path, num_pixels: int) -> None:
    """Refuse an animation that memory should not hold; `num_pixels` counts those of all frames."""
    if path.suffix.lower() in ANIMATIONS and num_pixels > _ANIMATION_PIXELS:
        limit = f"more than {_ANIMATION_PIXELS:,} pixels in all its frames"
        raise OutputError(
            f"{path} would be too large an animation: {limit}", "use .mp4, or write a shorter part with --end"
        )


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
        warn: called when the sound, or a part of it, has to be left out.
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
        warn: Callable[[str], None] = lambda text: None,
        encoding: Encoding | None = None,
    ) -> None:
        if encoding is None:
            check_suffix(path)
            encoding = VIEWING[path.suffix.lower()]
        super().__init__(path)
        self.encoding = encoding
        self.rate, self.time_base = rate, time_base
        self.last, self.last_pts = Fraction(-1), -1
        self.sound: CopiedSound | None = None
        try:
            self._open(size, pixel_aspect)
            if sound:
                self._add_sound(sound, sound_from, warn, size, pixel_aspect)
        except (av.FFmpegError, OSError) as error:
            self.part.unlink(missing_ok=True)
            raise cannot_write(self.path, error) from error

    def _add_sound(
        self,
        clip: Path,
        origin: Fraction,
        warn: Callable[[str], None],
        size: tuple[int, int],
        pixel_aspect: Fraction,
    ) -> None:
        """Copy the clip's sound, or else convert it, or else warn; what was begun in vain is begun anew."""
        for converts in (False, True):
            try:
                self.sound = CopiedSound(clip, self.container, origin, warn, converts=converts)
                self.container.start_encoding()
                return
            except UNFIT as error:
                reason = error
                self.container.close()
                self._open(size, pixel_aspect)
        self.sound = None
        warn(f"the sound of {clip} is left out: {reason}")

    def _open(self, size: tuple[int, int], pixel_aspect: Fraction) -> None:
        self.container = av.open(f"file:{self.part}", "w", format=self.encoding.container)
        self.stream: Any = self._add_pictures(size, pixel_aspect)

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
        context.color_primaries = context.color_trc = 1  # BT.709, so that players need not guess
        context.colorspace = 0 if pixels.is_rgb else 1
        context.color_range = 1 if pixels.name.startswith("yuv") else 2  # 2: from 0 to the largest value
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
        if values.ndim == 2 and values.dtype == np.uint8:  # FFmpeg's own conversion of 8-bit grey is off in one colour
            values = np.repeat(values[..., None], 3, axis=2)
        given = _PIXELS[values.shape[2] if values.ndim == 3 else 1, image.dtype.itemsize]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(values), format=given)
        frame = frame.reformat(format=self.encoding.pixels, dst_colorspace="ITU709", **ONE_THREAD)
        self.last, self.last_pts = time, max(round(time / self.time_base), self.last_pts + 1)
        frame.pts, frame.time_base = self.last_pts, self.time_base
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
                self.sound.close()
            self.container.close()


class AnimationWriter(_WholeFile):
    """Writes an animated picture (.gif, .webp), which is made in memory when all frames are there.

    Args:
        path: where to.
        rate: mean frames a second, for the last frame's time on show.

    Raises:
        OutputError: the file cannot be written, or the animation gets too large for memory.
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
        shown = durations if len(durations) > 1 else durations[0]  # Pillow takes no list for one frame
        options: dict[str, Any] = {"plugin": "pillow", "extension": suffix, "duration": shown, "loop": 0}
        self.part.write_bytes(imwrite("<bytes>", np.stack(self.frames), **options))
