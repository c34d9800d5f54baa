"""Still pictures with masks as a source of synthetic training clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mgseg.data.cutout import Cutout, Donor, cut_out
from mgseg.data.layouts import find_pairs
from mgseg.data.objects import find_objects
from mgseg.data.paste import compose
from mgseg.data.scene import ClipRequest, Scene, UInt8Array
from mgseg.data.transforms import STILLS, Augmentation
from mgseg.errors import DatasetError, MgsegError

# An object of less than 0.3 % of its picture (17x17 of 320x320 pixels) is too small to be followed in a training crop.
MIN_AREA = 0.003
# An object to be pasted has at least this many pixels, so that it is not a smear when enlarged; mostly no mere part.
MIN_CUTOUT_PIXELS = 1000
# So many pictures in a row that cannot be used mean that the dataset is broken.
ATTEMPTS = 50


@dataclass(frozen=True)
class _Still:
    picture: UInt8Array
    mask: UInt8Array
    objects: list[int]  # ids of the objects that are large enough


class Stills:
    """A dataset of still pictures; `draw` makes a moving clip of one of them.

    Pictures that cannot be used (unreadable, mask missing or of another size, no object large enough) are skipped and
    collected in `problems`; `check` finds them all beforehand.

    Args:
        root: a folder in one of the layouts of `mgseg.data.layouts`.
        options: how clips are made.
        donors: sources of objects to paste; without any, this dataset's own. May be set later.
        shorter_side: larger pictures are made smaller to this many pixels when read; 0 never.
        cache_bytes: decoded pictures kept in memory, by each process that draws.

    Raises:
        DatasetError: the folder is missing, has an unknown layout, or is empty.
    """

    def __init__(
        self,
        root: Path,
        options: Augmentation = STILLS,
        *,
        donors: Sequence[Donor] = (),
        shorter_side: int = 480,
        cache_bytes: int = 1 << 30,
    ) -> None:
        self.name = root.name
        self.options = options
        self.donors: Sequence[Donor] = donors or (self,)
        self.problems: dict[str, str] = {}
        self._pairs = find_pairs(root)
        self._shorter_side = shorter_side
        self._cache: dict[int, _Still] = {}
        self._free_bytes = cache_bytes

    def __len__(self) -> int:
        """Pictures in the dataset, those with problems included."""
        return len(self._pairs)

    def check(self) -> dict[str, str]:
        """Read every picture once; what cannot be used, by name, with the reason (also kept in `problems`)."""
        for index in range(len(self)):
            self._load(index)
        return self.problems

    def draw(self, rng: np.random.Generator, request: ClipRequest) -> Scene:
        """Draw a clip: the same numbers from `rng` give the same clip, whatever was drawn before.

        Raises:
            DatasetError: hardly any picture can be used.
        """
        index, still = self._pick(rng)
        return compose(
            rng,
            request,
            self.options,
            self.donors,
            name=f"{self.name}/{self._pairs[index].name}",
            pictures=[still.picture],
            masks=[still.mask],
            objects=still.objects,
        )

    def draw_cutout(self, rng: np.random.Generator) -> Cutout:
        """Draw an object to paste into another clip: of `MIN_CUTOUT_PIXELS`, or the largest of some that are less."""
        drawn: list[Cutout] = []
        for _ in range(ATTEMPTS):
            _, still = self._pick(rng)
            target = still.objects[int(rng.integers(len(still.objects)))]
            drawn.append(cut_out(still.picture, still.mask, target))
            if drawn[-1].mask.sum() >= MIN_CUTOUT_PIXELS:
                return drawn[-1]
        return max(drawn, key=lambda cutout: int(cutout.mask.sum()))

    def _pick(self, rng: np.random.Generator) -> tuple[int, _Still]:
        for _ in range(ATTEMPTS):
            index = int(rng.integers(len(self._pairs)))
            still = self._load(index)
            if still is not None:
                return index, still
        raise DatasetError(f"{self.name}: {ATTEMPTS} pictures in a row cannot be used; the last one: {self._last}")

    @property
    def _last(self) -> str:
        return next(reversed(self.problems.values()), "of nothing")

    def _load(self, index: int) -> _Still | None:
        if index in self._cache:
            return self._cache[index]
        pair = self._pairs[index]
        try:
            picture, mask = pair.read(self._shorter_side)
            objects = find_objects(mask, MIN_AREA)
            if not objects:
                raise DatasetError(f"{pair.name}: no object of at least {MIN_AREA:.1%} of the picture in its mask")
        except MgsegError as error:
            if pair.name not in self.problems:
                self.problems[pair.name] = str(error)
            return None
        still = _Still(picture, mask, objects)
        if picture.nbytes + mask.nbytes <= self._free_bytes:
            self._free_bytes -= picture.nbytes + mask.nbytes
            self._cache[index] = still
        return still
