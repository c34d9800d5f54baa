"""Reading clips: video files (any that PyAV decodes), animations and folders of pictures. `video_writer.py` writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from mgseg.files.decoding import open_video
from mgseg.files.frame import ClipInfo, Frame
from mgseg.files.names import find_path, reads_once
from mgseg.files.picture_clips import Animation, PictureFolder, is_animation
from mgseg.files.video_file import VideoFile

__all__ = ["Clip", "ClipInfo", "Frame", "open_clip", "probe", "read_backward", "read_frames"]


class Clip(Protocol):
    """A clip that is open for reading."""

    @property
    def info(self) -> ClipInfo:
        """Properties of the clip."""

    def frames(self, start: int | Fraction = 0, end: int | Fraction | None = None) -> Iterator[Frame]:
        """Read frames one after another, see `read_frames`."""

    def backward(self, start: int | Fraction, before: int) -> Iterator[Frame]:
        """Read frames from `before - 1` down to `start`, see `read_backward`."""


@contextmanager
def open_clip(path: Path) -> Iterator[Clip]:
    """Open a clip and decode its first frame, so that a clip without frames is an error here.

    Args:
        path: a video file, a folder of pictures, a named pipe, or "-" for the standard input.

    Raises:
        InputError: no such file, not a video, no video stream, no frame, over MAX_PIXELS, or two pictures of a name.
    """
    path = find_path(path)
    if path.is_dir():
        yield PictureFolder(path)
    elif not reads_once(path) and is_animation(path):
        yield Animation(path)
    else:
        with open_video(path) as (container, stream):
            yield VideoFile(path, container, stream)


def probe(path: Path) -> ClipInfo:
    """Return the properties of a clip; see `open_clip`."""
    with open_clip(path) as clip:
        return clip.info


def read_frames(path: Path, start: int | Fraction = 0, end: int | Fraction | None = None) -> Iterator[Frame]:
    """Read a clip's frames one after another, upright.

    Args:
        path: a video file or a folder of pictures (taken in natural order: 2 before 10).
        start: first frame wanted, as a frame number (int) or in seconds (Fraction).
        end: first frame not wanted, likewise; None for the clip's end.

    Raises:
        InputError: at the end, if an incomplete or damaged clip had fewer frames than its header states.
    """
    with open_clip(path) as clip:
        yield from clip.frames(start, end)


def read_backward(path: Path, start: int | Fraction, before: int) -> Iterator[Frame]:
    """Read the frames from `before - 1` down to `start`, holding `frames_at_once` of them at most.

    A video is decoded once up to `before` to learn the times, then in chunks from the keyframe before each.

    Args:
        path: a video file or a folder of pictures.
        start: the last frame to be handed out, as a frame number (int) or in seconds (Fraction).
        before: the frame number to begin in front of.
    """
    with open_clip(path) as clip:
        yield from clip.backward(start, before)
