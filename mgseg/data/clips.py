"""Real videos with masks for training: their frames, read one at a time, and short clips with a bounded skip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mgseg.data.catalog import Split
from mgseg.data.cutout import Donor
from mgseg.data.objects import find_objects
from mgseg.data.paste import compose
from mgseg.data.scene import ClipRequest, Scene, UInt8Array
from mgseg.data.transforms import CLIPS, Augmentation
from mgseg.errors import DatasetError, MgsegError
from mgseg.files.masks import read_index_map
from mgseg.files.pictures import read_picture

# A target has at least this share of the first frame; smaller ones are lost in a training crop.
MIN_AREA = 0.001
ATTEMPTS = 50
DIFFER_IN_SIZE = "its frames differ in size"
VOID_HINT = "255 is void in DAVIS 2017 and YouTube-VOS; --clips davis16=FOLDER takes 0/255 masks as one object"


class Videos:
    """The frames of a split that have a mask, read one at a time.

    Frames that cannot be used (unreadable, mask of another size) are skipped and collected in `problems`.

    Args:
        split: its sequences are the videos.
        shorter_side: frames are made smaller to this many pixels when read; 0 keeps the files' size.

    Raises:
        DatasetError: a sequence has no mask, or a mask without a frame.
    """

    def __init__(self, split: Split, shorter_side: int = 0) -> None:
        self.name = split.dataset
        self.names = split.names
        self.problems: dict[str, str] = {}
        self._files = [sequence.labelled_frames() for sequence in split.sequences]
        self._single_object, self._white_is_void = split.single_object, split.white_is_void
        self._shorter_side = shorter_side

    def __len__(self) -> int:
        return len(self._files)

    def num_frames(self, index: int) -> int:
        """How many frames of a video have a mask."""
        return len(self._files[index])

    def read(self, index: int, frame: int) -> tuple[UInt8Array, UInt8Array] | None:
        """Read frame uint8 (h, w, 3) RGB and mask uint8 (h, w), 255 void; None if it cannot be used."""
        picture_file, mask_file = self._files[index][frame]
        try:
            picture = read_picture(picture_file, self._shorter_side)
            mask = read_index_map(mask_file, self._shorter_side, as_stored=self._white_is_void)
            if mask.shape != picture.shape[:2]:
                found = f"mask {mask.shape}, frame {picture.shape[:2]} (height, width)"
                raise DatasetError(f"{mask_file}: {found}")
        except MgsegError as error:
            self.problems[f"{self.names[index]}/{picture_file.stem}"] = str(error)
            return None
        return picture, (mask > 0).astype(np.uint8) if self._single_object else mask

    def stretch(self, index: int, start: int, stop: int) -> Iterator[tuple[UInt8Array, UInt8Array]]:
        """Read the usable frames start..stop of a video in order, as far as they have one size."""
        first: tuple[UInt8Array, UInt8Array] | None = None
        for frame in range(start, stop):
            pair = self.read(index, frame)
            if pair is None:
                continue
            first = first or pair
            if pair[0].shape != first[0].shape:
                self.problems[self.names[index]] = DIFFER_IN_SIZE
                return
            yield pair


class Clips:
    """A dataset of videos; `draw` makes a clip of frames in order, cut out around an object.

    Frames that cannot be used are skipped and collected in `problems`, see `Videos`; clips whose first frame shows no
    object large enough are drawn anew.

    Args:
        split: where the clips come from.
        options: how clips are made.
        donors: sources of objects to paste; without any nothing is pasted. May be set later.
        shorter_side: frames are made smaller to this many pixels when read; 0 keeps the files' size.
        cache_bytes: decoded frames kept in memory, by each process that draws.

    Raises:
        DatasetError: a sequence has no mask, or a mask without a frame.
    """

    def __init__(
        self,
        split: Split,
        options: Augmentation = CLIPS,
        *,
        donors: Sequence[Donor] = (),
        shorter_side: int = 480,
        cache_bytes: int = 1 << 30,
    ) -> None:
        self.name = split.dataset
        self.options = options
        self.donors = donors
        self._videos = Videos(split, shorter_side)
        self.problems = self._videos.problems
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
            frames = _draw_frames(rng, self._videos.num_frames(which), request)
            if rng.random() < self.options.reverse:
                frames.reverse()
            read = [entry for frame in frames if (entry := self._load(which, frame))]
            if len(read) < request.num_frames:
                continue
            if len({frame.shape for frame, _ in read}) > 1:
                self.problems[self._videos.names[which]] = DIFFER_IN_SIZE
                continue
            objects = find_objects(read[0][1], MIN_AREA)
            if objects:
                return compose(
                    rng,
                    request,
                    self.options,
                    self.donors,
                    name=f"{self._videos.names[which]}/{frames[0]}",
                    pictures=[frame for frame, _ in read],
                    masks=[mask for _, mask in read],
                    objects=objects,
                )
        found = "".join(f"; {name}: {reason}" for name, reason in list(self.problems.items())[-1:])
        raise DatasetError(
            f"{self.name}: no clip of {request.num_frames} frames with an object in {ATTEMPTS} draws{found}",
            f"an object is a value of 1 to 254 on {MIN_AREA:.1%} of the clip's first frame; {VOID_HINT}",
        )

    def _load(self, which: int, frame: int) -> tuple[UInt8Array, UInt8Array] | None:
        key = which, frame
        if key in self._cache:
            return self._cache[key]
        read = self._videos.read(which, frame)
        if read and (size := read[0].nbytes + read[1].nbytes) <= self._free_bytes:
            self._free_bytes -= size
            self._cache[key] = read
        return read


def _draw_frames(rng: np.random.Generator, length: int, request: ClipRequest) -> list[int]:
    if length < request.num_frames:
        return []
    gaps = request.num_frames - 1
    # The skip that still fits a short video, the same bound for every gap.
    longest = max(1, min(request.max_skip, (length - 1) // gaps)) if gaps else 1
    steps = np.concatenate([[0], np.cumsum(rng.integers(1, longest + 1, gaps))])
    start = int(rng.integers(length - steps[-1]))
    return [int(start + step) for step in steps]
