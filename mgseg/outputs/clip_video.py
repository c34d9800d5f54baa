"""Video output with the frame times, pixel aspect and sound of the clip, from the first written frame on."""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mgseg.files.encodings import Encoding
from mgseg.files.names import in_words
from mgseg.files.video_writer import ANIMATIONS, AnimationWriter, VideoWriter, Writer, check_length, check_suffix
from mgseg.files.whole_file import make_folder
from mgseg.outputs.writer import Target


class ClipVideo:
    """Writes a video, opened with the first frame. A context manager that finishes the file, or deletes it on an error.

    Args:
        path: its ending tells the kind of file.
        target: the clip.
        encoding: how pictures are stored; that of a video to look at by default.
    """

    def __init__(self, path: Path, target: Target, encoding: Encoding | None = None) -> None:
        self.path, self.target, self.encoding = path, target, encoding
        self._exits = ExitStack()
        self._writer: Writer | None = None
        self._start = Fraction(0)

    @property
    def is_deep(self) -> bool:
        """Whether the file holds more than 8 bits of a value."""
        return self.encoding is not None and self.encoding.is_deep

    def check(self) -> None:
        """Raise an OutputError for a kind of file that cannot be written, or too large an animation."""
        if self.encoding:
            self.encoding.find_encoder(self.path)
            return
        check_suffix(self.path)
        clip = self.target.clip
        check_length(self.path, (self.target.num_frames or 0) * clip.width * clip.height)

    def write(self, image: Any, time: Fraction) -> None:
        """Add a frame at a time of the clip, in seconds; see `VideoWriter.write`."""
        if self._writer is None:
            self._start = time
            self._writer = self._exits.enter_context(self._open())
        self._writer.write(image, time - self._start)

    def _open(self) -> Writer:
        make_folder(self.path.parent)
        clip = self.target.clip
        if not self.encoding and self.path.suffix.lower() in ANIMATIONS:
            return AnimationWriter(self.path, clip.rate)
        return VideoWriter(
            self.path,
            (clip.height, clip.width),
            clip.rate,
            clip.time_base,
            pixel_aspect=clip.pixel_aspect,
            sound=clip.path if self._copies_sound() else None,
            sound_from=clip.first_time + self._start,
            warn=self.target.warn,
            encoding=self.encoding,
        )

    def _copies_sound(self) -> bool:
        clip = self.target.clip
        if clip.has_audio and clip.reads_once:
            self.target.warn(f"{self.path} has no sound, because {in_words(clip.path)} can be read only once")
        return clip.has_audio and not clip.reads_once

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.__exit__(kind, error, trace)
