"""Datasets and splits by name: DAVIS 2016/2017, YouTube-VOS 2018/2019, and any folder in their layout.

Only folders and lists are looked at here, no picture is opened.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mgseg.errors import DatasetError, InputError
from mgseg.files.pictures import list_pictures

DAVIS = ("davis16", "davis17")
YOUTUBE_VOS = ("youtube-vos-2018", "youtube-vos-2019")
DATASETS = (*DAVIS, *YOUTUBE_VOS)
ALL_FRAMES = "_all_frames"  # YouTube-VOS's splits with every frame of the video; annotations are the plain split's


@dataclass(frozen=True)
class VideoSequence:
    """One video of a split.

    Attributes:
        name: of its folders.
        frames: its pictures, in order; empty where only masks are at hand.
        masks: its annotations by frame name (the file's stem), in order.
        saved: names of the frames whose masks count: all of DAVIS's, those that YouTube-VOS's meta.json lists.
        given: names of the frames in which an object may appear first, as far as that is known without a look.
        categories: of the objects, by id; empty where the dataset has none.
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
        """Whether there are more annotations than the given ones."""
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
        dataset: "davis16", "davis17", "youtube-vos-2018", "youtube-vos-2019", or the folder's name.
        name: "val", "train", "valid_all_frames" and so on.
        protocol: how it is scored: "davis16", "davis17" or "youtube-vos".
        frames_root: folder of one folder of pictures a sequence.
        masks_root: folder of one folder of masks a sequence.
        sequences: in the order of the dataset's own list.
        training_categories: categories of the videos of the train split, by video; None where that is not at hand.
    """

    dataset: str
    name: str
    protocol: str
    frames_root: Path
    masks_root: Path
    sequences: tuple[VideoSequence, ...]
    training_categories: Mapping[str, frozenset[str]] | None = None

    @property
    def single_object(self) -> bool:
        """Whether every positive value of a mask is the one object, 255 too (DAVIS 2016)."""
        return self.protocol == "davis16"

    @property
    def white_is_void(self) -> bool:
        """Whether 255 is void in a black and white mask, too: in DAVIS 2017 and YouTube-VOS, not in your own."""
        return self.dataset in DATASETS and not self.single_object

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sequences."""
        return tuple(sequence.name for sequence in self.sequences)

    @property
    def has_truth(self) -> bool:
        """Whether there is ground truth to score against, beside the given masks."""
        return any(sequence.has_truth for sequence in self.sequences)

    def only(self, names: Iterable[str]) -> "Split":
        """Return the split with these sequences alone.

        Raises:
            DatasetError: one of them is not in the split.
        """
        known = {sequence.name: sequence for sequence in self.sequences}
        wanted = list(dict.fromkeys(names))
        if missing := [name for name in wanted if name not in known]:
            raise DatasetError(f"{self.dataset} {self.name} has no sequence {', '.join(missing)}")
        return replace(self, sequences=tuple(known[name] for name in wanted))


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
    _check_name(split, "split")
    if dataset not in DATASETS:
        home = Path(dataset)
        if not home.is_dir():
            known = ", ".join(DATASETS)
            raise DatasetError(f"there is no dataset {dataset}", f"expected {known}, or an existing folder")
        if (home / split).is_dir():
            return _youtube_vos(home.resolve().name, split, home)
        return _davis(home.resolve().name, split, home, "davis17", ("2017", "2016", ".", "480p"))
    if root is None or not root.is_dir():
        found = "no folder was named" if root is None else f"{root} is no folder"
        raise DatasetError(f"{dataset}: {found}", "name the folder of the datasets by --data or MGSEG_DATA")
    year = "20" + dataset[-2:]
    if dataset in DAVIS:
        lists = [year, "480p"] if dataset == "davis16" else [year]
        places = [".", "DAVIS", f"DAVIS{year}", f"DAVIS-{year}", f"DAVIS/{year}/trainval", f"DAVIS/{year}/{split}"]
        wanted = [Path("ImageSets", folder, f"{split}.txt") for folder in lists]
        return _davis(dataset, split, _home(dataset, root, places, wanted), dataset, lists)
    names = ("YouTube-VOS", "YouTubeVOS", "YoutubeVOS", "YouTube", "youtube-vos", "ytvos", "YTVOS")
    places = [".", dataset, *(f"{n}{s}" for n in names for s in (year, f"-{year}", f"_{year}", f"/{year}", ""))]
    return _youtube_vos(dataset, split, _home(dataset, root, places, [Path(split), Path("all_frames", split)]))


def seen_categories(split: Split) -> frozenset[str] | None:
    """Return the categories of the training videos that are not in this split; None where there are none."""
    scored = set(split.names)
    others = [found for video, found in (split.training_categories or {}).items() if video not in scored]
    return frozenset().union(*others) if others else None


def _home(dataset: str, root: Path, places: Iterable[str], wanted: list[Path]) -> Path:
    """Return the first of a few usual places under the root that holds one of the wanted paths."""
    for place in places:
        if any((root / place / path).exists() for path in wanted):
            return root / place
    raise DatasetError(
        f"{dataset}: {wanted[0]} was not found in {root}",
        "--data (or MGSEG_DATA) names the folder of the dataset, or one that holds it",
    )


def _davis(dataset: str, split: str, home: Path, protocol: str, lists: Iterable[str]) -> Split:
    frames_root, masks_root = (_with_resolution(home / kind) for kind in ("JPEGImages", "Annotations"))
    sequences = []
    for name in _read_list(dataset, split, home, lists, masks_root):
        frames = _pictures(frames_root / name)
        masks = _masks(masks_root / name)
        if not frames and not masks:
            raise DatasetError(f"{dataset} {split}: there is no sequence {name} in {frames_root}")
        names = tuple(path.stem for path in frames) or tuple(masks)
        sequences.append(VideoSequence(name, frames, masks, names, frozenset(names[:1]), {}))
    return Split(dataset, split, protocol, frames_root, masks_root, tuple(sequences))


def _with_resolution(folder: Path) -> Path:
    """DAVIS keeps its sequences one folder deeper, by resolution; protocols score the 480p one."""
    return folder / "480p" if (folder / "480p").is_dir() else folder


def _read_list(dataset: str, split: str, home: Path, lists: Iterable[str], masks_root: Path) -> list[str]:
    """Read the names of a DAVIS split: a name a line, or (DAVIS 2016's first release) the paths of each frame."""
    for folder in lists:
        path = home / "ImageSets" / folder / f"{split}.txt"
        if path.is_file():
            try:
                text = path.read_text(encoding="utf-8-sig")
            except (OSError, ValueError) as error:
                raise DatasetError(f"{path} is no list of names: {error}") from error
            lines = [line.split() for line in text.splitlines() if line.strip()]
            names = [words[0] if "/" not in words[0] else words[0].split("/")[-2] for words in lines]
            names = list(dict.fromkeys(names))
            break
    else:
        if (home / "ImageSets").is_dir() or not masks_root.is_dir() or split != "all":
            hint = 'a folder without lists has one split, "all"'
            raise DatasetError(f"{dataset}: there is no list ImageSets/*/{split}.txt in {home}", hint)
        folders = (path for path in masks_root.iterdir() if path.is_dir() and not _is_incidental(path.name))
        names = sorted(path.name for path in folders)
    if not names:
        raise DatasetError(f"{dataset} {split} lists no sequence")
    for name in names:
        _check_name(name, f"{dataset} {split}: sequence")
    return names


def _is_incidental(name: str) -> bool:
    """Whether a folder is an editor's, a server's or an archive's own: hidden, or named as those of macOS and NAS."""
    return name.startswith(".") or name in {"__MACOSX", "@eaDir", "lost+found"}


def _youtube_vos(dataset: str, split: str, home: Path) -> Split:
    frames_home = home / split if (home / split).is_dir() else home / "all_frames" / split
    plain = home / split.removesuffix(ALL_FRAMES)
    masks_home = plain if (plain / "Annotations").is_dir() else frames_home
    videos = _read_meta(masks_home / "meta.json")
    sequences = tuple(
        _youtube_vos_sequence(name, videos[name], frames_home / "JPEGImages", masks_home / "Annotations")
        for name in sorted(videos)
    )
    training = home / "train" / "meta.json"
    categories = None
    if training.is_file():
        categories = {name: frozenset(_categories(video).values()) for name, video in _read_meta(training).items()}
    roots = frames_home / "JPEGImages", masks_home / "Annotations"
    return Split(dataset, split, "youtube-vos", *roots, sequences, categories)


def _youtube_vos_sequence(name: str, video: Any, frames_root: Path, masks_root: Path) -> VideoSequence:
    frames, masks = _pictures(frames_root / name), _masks(masks_root / name)
    listed = [tuple(entry["frames"]) for entry in video["objects"].values() if entry["frames"]]
    saved = tuple(sorted({frame for listing in listed for frame in listing}))
    there = {path.stem for path in frames} or set(masks)
    if not masks:
        raise DatasetError(f"there is no mask of {name} in {masks_root}")
    if missing := [frame for frame in saved if frame not in there]:
        where = frames_root if frames else masks_root
        raise DatasetError(f"{where / name}: missing {', '.join(missing[:5])}, which meta.json lists")
    given = frozenset(min(listing) for listing in listed)
    promised = frozenset(int(key) for key in video["objects"])
    return VideoSequence(name, frames, masks, saved, given, _categories(video), promised)


def _categories(video: Any) -> dict[int, str]:
    return {int(key): entry["category"] for key, entry in video["objects"].items() if "category" in entry}


def _read_meta(path: Path) -> dict[str, Any]:
    """Read and check YouTube-VOS's meta.json: {"videos": {name: {"objects": {id: {"frames": [...], ...}}}}}."""
    try:
        videos = json.loads(path.read_text(encoding="utf-8-sig"))["videos"]
        for name, video in videos.items():
            _check_name(name, f"{path}: video")
            for key, entry in video["objects"].items():
                if not 0 < int(key) < 255 or not all(isinstance(frame, str) for frame in entry["frames"]):
                    raise ValueError(f"object {key} of {name}")
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing", "it lists the objects and the frames that count") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(f"{path} is not a YouTube-VOS meta.json: {error!r}") from error
    if not videos:
        raise DatasetError(f"{path} lists no video")
    return dict(videos)


def _pictures(folder: Path) -> tuple[Path, ...]:
    try:
        return tuple(list_pictures(folder))
    except (InputError, OSError, ValueError):
        return ()


def _masks(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in _pictures(folder) if path.suffix.lower() == ".png"}


def _check_name(name: str, what: str) -> None:
    """Refuse a name that would lead out of its folder."""
    if not name or name in {".", ".."} or "/" in name or "\\" in name or "\0" in name:
        raise DatasetError(f"{what} {name!r} is no plain name")
