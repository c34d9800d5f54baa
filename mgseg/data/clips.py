"""Real videos with masks: training clips with a bounded skip, and whole sequences read lazily."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mgseg.data.paste import Donor, compose
from mgseg.data.reading import find_objects, read_labels, read_picture
from mgseg.data.scene import ClipRequest, Scene, UInt8Array
from mgseg.data.transforms import CLIPS, Augmentation
from mgseg.errors import DatasetError
from mgseg.files.pictures import PICTURES

# A target has at least this share of the first frame; smaller ones are lost in a training crop.
MIN_AREA = 0.001
ATTEMPTS = 50


@dataclass(frozen=True)
class Video:
    """A sequence's frames that have a mask, in order (YouTube-VOS masks every fifth frame)."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]

    def read(self, index: int, *, single_object: bool = False, shorter_side: int = 0) -> tuple[UInt8Array, UInt8Array]:
        """Read frame uint8 (h, w, 3) RGB and mask uint8 (h, w); with `single_object` any positive id becomes 1.

        Raises:
            DatasetError: a file is damaged or the sizes differ.
        """
        frame = read_picture(self.frames[index], shorter_side)
        mask = read_labels(self.masks[index], shorter_side)
        if mask.shape != frame.shape[:2]:
            raise DatasetError(f"{self.masks[index]}: mask {mask.shape}, frame {frame.shape[:2]} (height, width)")
        return frame, (mask > 0).astype(np.uint8) if single_object else mask


def find_videos(frames_root: Path, masks_root: Path, names: Sequence[str]) -> list[Video]:
    """Find the frames and masks of named sequences: FRAMES/NAME/00000.jpg and MASKS/NAME/00000.png.

    Raises:
        DatasetError: a sequence has no frames, no masks, or masks without frames.
    """
    videos = []
    for name in names:
        if not (frames_root / name).is_dir() or not (masks_root / name).is_dir():
            missing = frames_root / name if not (frames_root / name).is_dir() else masks_root / name
            raise DatasetError(f"{name}: the sequence is missing, no folder {missing}")
        frames = {p.stem: p for p in (frames_root / name).iterdir() if p.suffix.lower() in PICTURES}
        masks = sorted((masks_root / name).glob("*.png"))
        lost = [mask.stem for mask in masks if mask.stem not in frames]
        if lost or not masks:
            what = f"{len(lost)} masks without a frame, the first {lost[0]}" if lost else "no masks"
            raise DatasetError(f"{name}: the sequence is incomplete, {what}")
        videos.append(Video(name, tuple(frames[mask.stem] for mask in masks), tuple(masks)))
    return videos


class Clips:
    """A dataset of videos; `draw` makes a clip of frames in order, cut out around an object.

    Frames that cannot be used (unreadable, mask of another size) are skipped with one warning each and collected in
    `problems`; clips whose first frame shows no object large enough are drawn anew.

    Args:
        frames_root, masks_root: folders with a folder of each sequence (DAVIS, YouTube-VOS).
        names: the sequences.
        options: how clips are made.
        name: of the dataset, for messages.
        single_object: any positive id is the object (DAVIS 2016).
        donors: sources of objects to paste; without any nothing is pasted. May be set later.
        shorter_side: frames are made smaller to this many pixels when read; 0 keeps the files' size.
        cache_bytes: decoded frames kept in memory, by each process that draws.

    Raises:
        DatasetError: a sequence is missing or incomplete.
    """

    def __init__(
        self,
        frames_root: Path,
        masks_root: Path,
        names: Sequence[str],
        options: Augmentation = CLIPS,
        *,
        name: str = "clips",
        single_object: bool = False,
        donors: Sequence[Donor] = (),
        shorter_side: int = 480,
        cache_bytes: int = 1 << 30,
    ) -> None:
        self.name = name
        self.options = options
        self.donors = donors
        self.problems: dict[str, str] = {}
        self._videos = find_videos(frames_root, masks_root, names)
        self._single_object = single_object
        self._shorter_side = shorter_side
        self._cache: dict[tuple[int, int], tuple[UInt8Array, UInt8Array]] = {}
        self._free_bytes = cache_bytes

    def __len__(self) -> int:
        """Sequences in the dataset."""
        return len(self._videos)

    def draw(self, rng: np.random.Generator, request: ClipRequest) -> Scene:
        """Draw a clip: each frame is 1 to `max_skip` frames of the video from the one before.

        Raises:
            DatasetError: hardly any clip can be used.
        """
        for _ in range(ATTEMPTS):
            which = int(rng.integers(len(self._videos)))
            frames = _draw_frames(rng, len(self._videos[which].frames), request)
            if rng.random() < self.options.reverse:
                frames.reverse()
            read = [entry for frame in frames if (entry := self._load(which, frame))]
            if len(read) < request.num_frames:
                continue
            if len({frame.shape for frame, _ in read}) > 1:
                self._note(self._videos[which].name, "its frames differ in size")
                continue
            objects = find_objects(read[0][1], MIN_AREA)
            if objects:
                return compose(
                    rng,
                    request,
                    self.options,
                    self.donors,
                    name=f"{self._videos[which].name}/{frames[0]}",
                    pictures=[frame for frame, _ in read],
                    masks=[mask for _, mask in read],
                    objects=objects,
                )
        raise DatasetError(f"{self.name}: no clip of {request.num_frames} frames with an object in {ATTEMPTS} draws")

    def _load(self, which: int, frame: int) -> tuple[UInt8Array, UInt8Array] | None:
        key = which, frame
        if key in self._cache:
            return self._cache[key]
        video = self._videos[which]
        try:
            read = video.read(frame, single_object=self._single_object, shorter_side=self._shorter_side)
        except DatasetError as error:
            self._note(f"{video.name}/{video.frames[frame].stem}", str(error))
            return None
        size = read[0].nbytes + read[1].nbytes
        if size <= self._free_bytes:
            self._free_bytes -= size
            self._cache[key] = read
        return read

    def _note(self, name: str, reason: str) -> None:
        if name not in self.problems:
            self.problems[name] = reason
            warnings.warn(f"{self.name}: skipped {name}, {reason}", stacklevel=3)


def _draw_frames(rng: np.random.Generator, length: int, request: ClipRequest) -> list[int]:
    if length < request.num_frames:
        return []
    gaps = request.num_frames - 1
    # The skip that still fits a short video, the same bound for every gap.
    longest = max(1, min(request.max_skip, (length - 1) // gaps)) if gaps else 1
    steps = np.concatenate([[0], np.cumsum(rng.integers(1, longest + 1, gaps))])
    start = int(rng.integers(length - steps[-1]))
    return [int(start + step) for step in steps]


class Sequences:
    """Whole videos for the sequence stage, one frame in memory at a time.

    Args:
        frames_root, masks_root, names, single_object: as for `Clips`.
        shorter_side: as for `Clips`; 0, the default, keeps full resolution.

    Raises:
        DatasetError: a sequence is missing or incomplete.
    """

    def __init__(
        self,
        frames_root: Path,
        masks_root: Path,
        names: Sequence[str],
        *,
        single_object: bool = False,
        shorter_side: int = 0,
    ) -> None:
        self.videos = find_videos(frames_root, masks_root, names)
        self._single_object = single_object
        self._shorter_side = shorter_side

    def __len__(self) -> int:
        return len(self.videos)

    def read(self, index: int) -> Iterator[tuple[UInt8Array, UInt8Array]]:
        """Yield (frame uint8 (h, w, 3) RGB, mask uint8 (h, w)) of one video in order.

        Raises:
            DatasetError: a file is damaged or the sizes differ.
        """
        video = self.videos[index]
        for frame in range(len(video.frames)):
            yield video.read(frame, single_object=self._single_object, shorter_side=self._shorter_side)
