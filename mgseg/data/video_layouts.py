"""Folder layouts of videos with masks: DAVIS's lists and YouTube-VOS's meta.json.

Only folders and lists are looked at here, no picture is opened.
"""

import codecs
import json
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mgseg.data.split import Split, VideoSequence
from mgseg.errors import DatasetError, InputError
from mgseg.files.pictures import list_pictures

ALL_FRAMES = "_all_frames"  # YouTube-VOS's splits with every frame of the video; annotations are the plain split's
ALL = "all"  # the split of a folder without lists
# Folders of editors, archives and file servers, beside hidden ones.
INCIDENTAL = {"__MACOSX", "@eaDir", "lost+found"}


def davis_splits(home: Path, lists: Iterable[str]) -> list[str]:
    """Name the splits of a folder in DAVIS's layout: its lists, or "all" where it has none."""
    found = {
        path.stem for folder in lists for path in (home / "ImageSets" / folder).glob("*.txt") if path.name[0] != "."
    }
    if found or any((home / "ImageSets").rglob("*.txt")):
        return sorted(found)
    return [ALL] if (home / "Annotations").is_dir() else []


def read_davis(dataset: str, split: str, home: Path, protocol: str, lists: Iterable[str]) -> Split:
    """Read a split in DAVIS's layout.

    Args:
        dataset: its name.
        split: see `davis_splits`.
        home: the folder that holds JPEGImages, Annotations and, mostly, ImageSets.
        protocol: see `Split`.
        lists: the folders of ImageSets to look into, in this order.

    Raises:
        DatasetError: the split or one of its sequences is missing, or its list is damaged.
    """
    frames_root, masks_root = (_with_resolution(home / kind) for kind in ("JPEGImages", "Annotations"))
    if split in davis_splits(home, lists):
        path = next((p for folder in lists if (p := home / "ImageSets" / folder / f"{split}.txt").is_file()), None)
    else:
        found = ", ".join(davis_splits(home, lists))
        hint = f"found: {found}" if found else "expected JPEGImages/NAME/00000.jpg and Annotations/NAME/00000.png there"
        raise DatasetError(f"{dataset}: there is no list ImageSets/*/{split}.txt in {home}", hint)
    sequences = []
    for name in _listed_names(path) if path else _folder_names(masks_root):
        check_name(name, f"{dataset} {split}: sequence")
        frames, masks = _pictures(find_folder(frames_root, name)), _masks(find_folder(masks_root, name))
        if not frames and not masks:
            raise DatasetError(f"{dataset} {split}: there is no sequence {name} in {frames_root}")
        names = tuple(path.stem for path in frames) or tuple(masks)
        if lost := [mask for mask in masks if mask not in names]:
            where = find_folder(frames_root, name)
            more = f" ({len(lost)} are missing)" if len(lost) > 1 else ""
            raise DatasetError(f"{where} has no frame {lost[0]}, although there is a mask of it{more}")
        sequences.append(VideoSequence(name, frames, masks, names, frozenset(names[:1]), {}))
    if not sequences:
        raise DatasetError(f"{dataset} {split} has no sequence: {masks_root} contains no folders of masks")
    return Split(dataset, split, protocol, frames_root, masks_root, tuple(sequences))


def read_list(path: Path) -> list[str]:
    """Read the lines of a text file, in UTF-8 or, with a byte-order mark, UTF-16; without empty ones.

    Raises:
        DatasetError: the file cannot be read, or lists nothing.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} is not a list of names: {error}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise DatasetError(f"{path} lists no sequence")
    return lines


def _listed_names(path: Path) -> list[str]:
    """Read a list of DAVIS: a name a line, or (DAVIS 2016's first release) the paths of each frame and mask."""
    lines = read_list(path)
    return list(dict.fromkeys(line.split()[0].split("/")[-2] if "/" in line else line for line in lines))


def _folder_names(root: Path) -> list[str]:
    found = (path.name for path in root.iterdir() if path.is_dir())
    return sorted(name for name in found if name[0] != "." and name not in INCIDENTAL)


def _with_resolution(folder: Path) -> Path:
    """DAVIS keeps its sequences one folder deeper, by resolution; protocols score the 480p one."""
    return folder / "480p" if (folder / "480p").is_dir() else folder


def youtube_vos_splits(home: Path) -> list[str]:
    """Name the splits of a folder in YouTube-VOS's layout."""
    folders = [
        path for root in (home, home / "all_frames") if root.is_dir() for path in root.iterdir() if path.is_dir()
    ]
    homes = {path.name: _masks_home(home, path.name) for path in folders}
    return sorted(
        name for name, path in homes.items() if (path / "meta.json").is_file() and (path / "Annotations").is_dir()
    )


def read_youtube_vos(dataset: str, split: str, home: Path) -> Split:
    """Read a split in YouTube-VOS's layout.

    Args:
        dataset: its name.
        split: the folder below `home`, or below `home`/all_frames.
        home: the folder of the splits.

    Raises:
        DatasetError: a sequence is missing, or meta.json is missing or damaged.
    """
    frames_home, masks_home = _frames_home(home, split), _masks_home(home, split)
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


def _frames_home(home: Path, split: str) -> Path:
    return home / split if (home / split).is_dir() else home / "all_frames" / split


def _masks_home(home: Path, split: str) -> Path:
    plain = home / split.removesuffix(ALL_FRAMES)
    return plain if (plain / "Annotations").is_dir() else _frames_home(home, split)


def _youtube_vos_sequence(name: str, video: Any, frames_root: Path, masks_root: Path) -> VideoSequence:
    frames, masks = _pictures(find_folder(frames_root, name)), _masks(find_folder(masks_root, name))
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
        videos = json.loads(path.read_bytes())["videos"]
        for name, video in videos.items():
            check_name(name, f"{path}: video")
            for key, entry in video["objects"].items():
                if not 0 < int(key) < 255 or not all(isinstance(frame, str) for frame in entry["frames"]):
                    raise ValueError(f"object {key} of {name}")
    except FileNotFoundError:
        raise DatasetError(
            f"{path} is missing", "this file lists the objects and the frames to score; copy it from the dataset"
        ) from None
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


def find_folder(root: Path, name: str) -> Path:
    """The folder of a name, in whichever Unicode form the file system keeps it."""
    path = root / name
    with suppress(OSError, ValueError):  # of a name that no file system takes
        if not path.is_dir() and root.is_dir():
            wanted = unicodedata.normalize("NFC", name)
            return next((other for other in root.iterdir() if unicodedata.normalize("NFC", other.name) == wanted), path)
    return path


def check_name(name: str, what: str) -> None:
    """Raise a DatasetError for a name that would lead outside its folder."""
    if not name or name in {".", ".."} or "/" in name or "\\" in name or "\0" in name:
        raise DatasetError(f"{what} {name!r} is not a plain name: it must not contain a path")
