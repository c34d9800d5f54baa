"""A video made from a clip: its frame times from the first frame that is written on, its shape of pixels, its sound."""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from mgseg.files.video_writer import ANIMATIONS, AnimationWriter, Image, VideoWriter, Writer, check_length, check_suffix
from mgseg.files.whole_file import make_folder
from mgseg.outputs.writer import Target


class ClipVideo:
    """Opens with the first frame. A context manager that ends the file; on an error none is left.

    Args:
        path: its ending tells the kind of file.
        target: the clip.
    """

    def __init__(self, path: Path, target: Target) -> None:
        self.path, self.target = path, target
        self._exits = ExitStack()
        self._writer: Writer | None = None
        self._start = Fraction(0)

    def check(self) -> None:
        """Refuse an unknown kind of file, and an animation that memory should not hold."""
        check_suffix(self.path)
        clip = self.target.clip
        check_length(self.path, (self.target.num_frames or 0) * clip.width * clip.height)

    def write(self, image: Image, time: Fraction) -> None:
        """Add a frame: uint8 (H, W, 3) RGB at a time of the clip, in seconds."""
        if self._writer is None:
            self._start = time
            self._writer = self._exits.enter_context(self._open())
        self._writer.write(image, time - self._start)

    def _open(self) -> Writer:
        make_folder(self.path.parent)
        clip = self.target.clip
        if self.path.suffix.lower() in ANIMATIONS:
            return AnimationWriter(self.path, clip.rate)
        return VideoWriter(
            self.path,
            (clip.height, clip.width),
            clip.rate,
            clip.time_base,
            pixel_aspect=clip.pixel_aspect,
            sound=clip.path if clip.has_audio else None,
            sound_from=clip.first_time + self._start,
            warn=self.target.warn,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.__exit__(kind, error, trace)
