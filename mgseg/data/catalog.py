"""Datasets and splits by name: DAVIS 2016/2017, YouTube-VOS 2018/2019, and any folder in their layout."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mgseg.data.split import Split, VideoSequence, seen_categories
from mgseg.data.video_layouts import (
    ALL,
    check_name,
    davis_splits,
    read_davis,
    read_youtube_vos,
    youtube_vos_splits,
)
from mgseg.errors import DatasetError

__all__ = [
    "DATASETS",
    "Split",
    "VideoSequence",
    "default_split",
    "find_split",
    "find_training_data",
    "find_training_split",
    "seen_categories",
]


@dataclass(frozen=True)
class Dataset:
    """Description of a dataset.

    Attributes:
        protocol: how it is scored, see `evaluation.protocols`.
        folders: where it lies below the folder of all datasets, as people unpack it.
        lists: folders of ImageSets, for DAVIS's layout; empty for YouTube-VOS's.
    """

    protocol: str
    folders: tuple[str, ...]
    lists: tuple[str, ...] = ()

    def splits(self, home: Path) -> list[str]:
        """Return the names of the splits in a folder."""
        return davis_splits(home, self.lists) if self.lists else youtube_vos_splits(home)


def _davis(year: str, *lists: str) -> Dataset:
    parts = (f"DAVIS/{year}/{part}" for part in ("trainval", "test-dev", "test-challenge"))
    return Dataset(f"davis{year[2:]}", (".", "DAVIS", f"DAVIS{year}", f"DAVIS-{year}", *parts), lists)


def _youtube_vos(year: str) -> Dataset:
    names = ("YouTube-VOS", "YouTubeVOS", "YoutubeVOS", "YouTube", "youtube-vos", "ytvos", "YTVOS")
    folders = (f"{name}{end}" for name in names for end in (year, f"-{year}", f"_{year}", f"/{year}", ""))
    return Dataset("youtube-vos", (".", f"youtube-vos-{year}", *folders))


DATASETS = {
    "davis16": _davis("2016", "2016", "480p"),
    "davis17": _davis("2017", "2017"),
    "youtube-vos-2018": _youtube_vos("2018"),
    "youtube-vos-2019": _youtube_vos("2019"),
}
TRAINED_ON = ("youtube-vos-2019", "davis17", "davis16")  # where none is named: the first of these that is there
OWN = Dataset("davis17", (), ("2017", "2016", ".", "480p"))  # a folder of one's own in DAVIS's layout


def find_split(dataset: str, split: str, root: Path | None) -> Split:
    """Find a split of a dataset.

    Args:
        dataset: one of DATASETS, or the path of a folder in DAVIS's or YouTube-VOS's layout.
        split: DAVIS: the name of a list in ImageSets; YouTube-VOS: the name of a folder, as "valid" or
            "valid_all_frames".
        root: the folder of a named dataset, or one that holds it; not used where `dataset` is a path.

    Raises:
        DatasetError: the dataset, the split or one of its sequences is missing, or a list of it is damaged.
    """
    check_name(split, "split")
    if dataset not in DATASETS:
        home = Path(dataset)
        if not home.is_dir():
            known = ", ".join(DATASETS)
            raise DatasetError(f"there is no dataset {dataset}", f"give {known}, or an existing folder")
        if (home / split).is_dir() or split in youtube_vos_splits(home):
            return read_youtube_vos(home.resolve().name, split, home)
        return read_davis(home.resolve().name, split, home, OWN.protocol, OWN.lists)
    if root is None or not root.is_dir():
        found = "no folder was given" if root is None else f"{root} is not a folder"
        raise DatasetError(
            f"{dataset}: {found}", "give the folder of the datasets with --data FOLDER or the variable MGSEG_DATA"
        )
    entry = DATASETS[dataset]
    for home in _homes(dataset, root):
        if split in entry.splits(home):
            if not entry.lists:
                return replace(read_youtube_vos(dataset, split, home), white_is_void=True)
            found_split = read_davis(dataset, split, home, entry.protocol, entry.lists)
            return replace(found_split, white_is_void=not found_split.single_object)
    raise DatasetError(f"{dataset} {split} was not found in {root}", f"{_looked_for(dataset, split)}. {_found(root)}")


def default_split(dataset: str) -> str:
    """The split to score where none is named: DAVIS: "val", YouTube-VOS: "valid", a folder without lists: "all"."""
    entry = DATASETS.get(dataset)
    if entry:
        return "val" if entry.lists else "valid"
    found = OWN.splits(Path(dataset))
    return ALL if found == [ALL] else "val" if "val" in found else "valid"


def find_training_split(text: str) -> Split:
    """Find the videos that "NAME=FOLDER", or a folder, gives for training.

    A name of DATASETS says what the masks mean; any other name is a mere label. Of the folder the split "train" is
    taken, or all of it where it has no lists.

    Raises:
        DatasetError: see `find_split`.
    """
    name, equals, folder = text.partition("=")
    if not equals or Path(text).is_dir():
        name, folder = "", text
    has_lists = OWN.splits(Path(folder)) != [ALL]
    split = "train" if has_lists or youtube_vos_splits(Path(folder)) else ALL
    if name in DATASETS:
        return find_split(name, split, Path(folder))
    found = find_split(folder, split, None)
    return replace(found, dataset=name) if name else found


def find_training_data(root: Path) -> Split:
    """Find the training videos of the best dataset that lies in a folder of datasets.

    Raises:
        DatasetError: there is none, or it is damaged.
    """
    for dataset in TRAINED_ON:
        if any("train" in DATASETS[dataset].splits(home) for home in _homes(dataset, root)):
            return find_split(dataset, "train", root)
    looked_for = "; ".join(_looked_for(dataset, "train") for dataset in TRAINED_ON)
    raise DatasetError(f"no videos to train on were found in {root}", f"{looked_for}. {_found(root)}")


def _homes(dataset: str, root: Path) -> Iterator[Path]:
    """The folders, of those where the dataset may lie, that exist."""
    return (root / folder for folder in DATASETS[dataset].folders if (root / folder).is_dir())


def _looked_for(dataset: str, split: str) -> str:
    """Say which files and folders a split consists of, and where they were looked for."""
    entry = DATASETS[dataset]
    if entry.lists:
        layout = f"ImageSets/{entry.lists[0]}/{split}.txt, JPEGImages/480p/NAME, Annotations/480p/NAME"
    else:
        layout = f"{split}/meta.json, {split}/JPEGImages/NAME, {split}/Annotations/NAME"
    return f"expected {dataset} ({layout}) in {', '.join(entry.folders[:6])} or a similar folder"


def _found(root: Path) -> str:
    """Say which datasets a folder of datasets does hold."""
    found = [
        f"{dataset} ({', '.join(splits)}) in {home}"
        for dataset, entry in DATASETS.items()
        for home in _homes(dataset, root)
        if (splits := entry.splits(home))
    ]
    own = [path for path in sorted(root.iterdir()) if OWN.splits(path)]
    named = {home.resolve() for dataset in DATASETS for home in _homes(dataset, root)}
    found += [f"{path}, in DAVIS's layout" for path in own if path.resolve() not in named]
    return "Found there: " + ("; ".join(found) or "no known dataset")
