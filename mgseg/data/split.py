"""A split of a dataset: its videos, their frames and masks, and the categories of their objects."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mgseg.errors import DatasetError


@dataclass(frozen=True)
class VideoSequence:
    """One video of a split.

    Attributes:
        name: name of its folders.
        frames: its pictures, in order; empty where only masks are at hand.
        masks: its annotations by frame name (the file's stem), in order.
        saved: names of the frames whose masks count: all of DAVIS's, those that YouTube-VOS's meta.json lists.
        given: names of the frames in which an object may appear first, as far as that is known without a look.
        categories: categories of the objects, by id; empty where the dataset has none.
        promised: ids of the objects that YouTube-VOS's meta.json lists; empty where there is no such list.
    """

    name: str
    frames: tuple[Path, ...]
    masks: Mapping[str, Path]
    saved: tuple[str, ...]
    given: frozenset[str]
    categories: Mapping[int, str]
    promised: frozenset[int] = frozenset()

    @property
    def has_truth(self) -> bool:
        """Whether there are masks to score against, beside the given ones."""
        return not self.given.issuperset(self.masks)

    def labelled_frames(self) -> tuple[tuple[Path, Path], ...]:
        """Return the frames that have a mask, each with its mask, in order (YouTube-VOS masks every fifth frame).

        Raises:
            DatasetError: there is no mask, or a mask without a frame.
        """
        frames = {path.stem: path for path in self.frames}
        lost = [name for name in self.masks if name not in frames]
        if lost or not self.masks:
            what = f"{len(lost)} masks without a frame, the first {lost[0]}" if lost else "no masks"
            raise DatasetError(f"the sequence {self.name} is incomplete: {what}")
        return tuple((frames[name], mask) for name, mask in self.masks.items())


@dataclass(frozen=True)
class Split:
    """The sequences of one split of one dataset.

    Attributes:
        dataset: a name of `catalog.DATASETS`, or the folder's name.
        name: "val", "train", "valid_all_frames" and so on.
        protocol: how it is scored: "davis16", "davis17" or "youtube-vos".
        frames_root: folder of one folder of pictures a sequence.
        masks_root: folder of one folder of masks a sequence.
        sequences: in the order of the dataset's own list.
        training_categories: categories of the videos of the train split, by video; None where that is not at hand.
        white_is_void: 255 is void in black and white masks, too; otherwise such a mask is of one object.
    """

    dataset: str
    name: str
    protocol: str
    frames_root: Path
    masks_root: Path
    sequences: tuple[VideoSequence, ...]
    training_categories: Mapping[str, frozenset[str]] | None = None
    white_is_void: bool = False

    @property
    def single_object(self) -> bool:
        """Whether every positive value of a mask is the one object, 255 too (DAVIS 2016)."""
        return self.protocol == "davis16"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sequences."""
        return tuple(sequence.name for sequence in self.sequences)

    @property
    def has_truth(self) -> bool:
        """Whether there is ground truth to score against, beside the given masks."""
        return any(sequence.has_truth for sequence in self.sequences)

    def only(self, names: Iterable[str]) -> "Split":
        """Return the split reduced to these sequences.

        Raises:
            DatasetError: one of them is not in the split.
        """
        known = {sequence.name: sequence for sequence in self.sequences}
        wanted = list(dict.fromkeys(names))
        if missing := [name for name in wanted if name not in known]:
            raise DatasetError(f"{self.dataset} {self.name} has no sequence {', '.join(missing)}")
        return replace(self, sequences=tuple(known[name] for name in wanted))


def seen_categories(split: Split) -> frozenset[str] | None:
    """Return the categories of the training videos that are not in this split; None where there are none."""
    scored = set(split.names)
    others = [found for video, found in (split.training_categories or {}).items() if video not in scored]
    return frozenset().union(*others) if others else None
