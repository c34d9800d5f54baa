"""Frames of a clip as pictures for the page: previews stored on disk, full-size frames decoded on demand."""

import io
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.errors import InputError, MgsegError
from mgseg.files.video import ClipInfo, Frame, read_frames
from mgseg.files.whole_file import write_whole
from mgseg.segment.cuts import CutDetector

PREVIEW_SIDE = 960  # pixels, the longer side of a preview
_PREVIEW_QUALITY, _FULL_QUALITY = 80, 92  # of JPEG
_HELD_BYTES = 2**26  # of decoded full-size frames: ten at 1080p
_NEAR = 64  # up to this distance, frames are decoded on instead of seeking
_PATIENCE = 120.0  # seconds that a request waits for a frame that is not prepared yet


class FrameStore:
    """Pictures of a clip's frames, by number. Every method may be called from any thread.

    Args:
        info: properties of the clip.
        cache: folder of the previews; what is there from another run is used again if the clip is the same.
        on_progress: called with (frames prepared, whether that is all) by the preparing thread.

    Attributes:
        num_frames: how many frames are known to be there; final when `complete`.
        complete: all frames are counted and have a preview.
        cuts: frames with which a new scene begins, as far as is known.
        problem: why the clip could not be read to its end, or None.
    """

    def __init__(self, info: ClipInfo, cache: Path, on_progress: Callable[[int, bool], None]) -> None:
        self.info, self.cache = info, cache
        self.num_frames, self.complete = 0, False
        self.problem: str | None = None
        self.cuts: list[int] = []
        self._on_progress = on_progress
        self._more = threading.Condition()
        self._closed = threading.Event()
        self._reader = _Reader(info.path)
        self._thread = threading.Thread(target=self._prepare, name="previews", daemon=True)

    def start(self) -> None:
        """Start to make the previews, in a separate thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def preview(self, number: int) -> bytes:
        """Return a frame as JPEG, its longer side at most PREVIEW_SIDE.

        Raises:
            InputError: there is no such frame.
        """
        with self._more:
            self._more.wait_for(lambda: number < self.num_frames or self.complete, timeout=_PATIENCE)
            if not 0 <= number < self.num_frames:
                raise InputError(f"there is no frame {number}", f"the frames are 0 to {self.num_frames - 1}")
        return self._path(number).read_bytes()

    def full(self, number: int) -> bytes:
        """Return a frame as JPEG at full size; raises as `image`."""
        return _jpeg(Image.fromarray(self.image(number)), _FULL_QUALITY)

    def image(self, number: int) -> NDArray[np.uint8]:
        """A frame, uint8 (H, W, 3) RGB.

        Raises:
            InputError: there is no such frame.
        """
        return self._reader.read(number).image

    def _path(self, number: int) -> Path:
        return self.cache / f"{number:05d}.jpg"

    def _prepare(self) -> None:
        try:
            start = self._found()
            detector = CutDetector()
            for frame in read_frames(self.info.path, max(0, start - 1)):
                if detector.is_cut(frame.image):
                    self.cuts.append(frame.index)
                    write_whole(self.cache / "cuts.json", json.dumps(self.cuts))
                if self._closed.is_set():
                    return
                small = Image.fromarray(frame.image)
                small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
                write_whole(self._path(frame.index), _jpeg(small, _PREVIEW_QUALITY))
                self._advance(frame.index + 1)

        except MgsegError as error:
            self.problem = str(error)
        self._advance(self.num_frames, complete=True)

    def _found(self) -> int:
        """How many previews are there already; those of another clip are not."""
        index = self.cache / "clip.json"
        identity = self._identity()
        try:
            same = json.loads(index.read_text(encoding="utf-8")) == identity
        except (OSError, ValueError):
            same = False
        if same:
            with suppress(OSError, ValueError):
                self.cuts = json.loads((self.cache / "cuts.json").read_text(encoding="utf-8"))
        else:
            for path in (*self.cache.glob("*.jpg"), *self.cache.glob("cuts.json")):
                path.unlink()
            write_whole(index, json.dumps(identity))
        count = 0
        while self._path(count).exists():
            count += 1
        if count:
            self._advance(count)
        return count

    def _identity(self) -> dict[str, int]:
        status = self.info.path.stat()
        return {"size": status.st_size, "changed": status.st_mtime_ns, "side": PREVIEW_SIDE}

    def _advance(self, count: int, complete: bool = False) -> None:
        with self._more:
            self.num_frames, self.complete = count, complete
            self._more.notify_all()
        if complete or count % 16 == 1:
            self._on_progress(count, complete)


def shrink(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale a mask (H, W) to the size of a preview, by nearest neighbour."""
    factor = -(-max(mask.shape) // PREVIEW_SIDE)
    return mask[::factor, ::factor]


class _Reader:
    """Reads full-size frames in any order: frames shortly after the last one by decoding on, others by seeking."""

    def __init__(self, clip: Path) -> None:
        self._clip = clip
        self._lock = threading.Lock()
        self._held: OrderedDict[int, Frame] = OrderedDict()
        self._frames: Iterator[Frame] = iter(())
        self._next = 0

    def read(self, number: int) -> Frame:
        with self._lock:
            if number in self._held:
                self._held.move_to_end(number)
                return self._held[number]
            if not 0 <= number - self._next <= _NEAR or not self._next:
                self._frames, self._next = read_frames(self._clip, number), number
            for frame in self._frames:
                self._next = frame.index + 1
                self._hold(frame)
                if frame.index == number:
                    return frame
            self._next = 0
        raise InputError(f"{self._clip} has no frame {number}")

    def _hold(self, frame: Frame) -> None:
        self._held[frame.index] = frame
        while len(self._held) > 1 and len(self._held) * frame.image.nbytes > _HELD_BYTES:
            self._held.popitem(last=False)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality)
    return data.getvalue()
