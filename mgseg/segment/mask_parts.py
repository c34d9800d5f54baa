"""Masks of single files and arrays: the part of a frame's mask from one source. `GivenMasks` joins them."""

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError  # NumPy raises it for a damaged header

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.annotations.frames import LabelledFrame
from mgseg.annotations.reading import ENDINGS, find_picture, in_short, read_annotations
from mgseg.annotations.shapes import DAMAGED
from mgseg.errors import InputError
from mgseg.files.mask_forms import interpret
from mgseg.files.masks import MaskFile, fit_mask, object_ids
from mgseg.files.names import same_form
from mgseg.files.pictures import PICTURES, list_pictures
from mgseg.files.video import ClipInfo
from mgseg.segment.mask_sources import FileSource

ARRAYS = {".npy", ".npz"}
Mask = NDArray[np.uint8]
Key = tuple[str, int | None, int]  # label, track, count among objects alike on a frame


@dataclass(frozen=True)
class Labels:
    """One frame of an annotation file, packed, so that long files take little memory.

    Attributes:
        source: where from.
        packed: index map of numbers 1 to N, compressed.
        size: (height, width).
        keys: what tells the N objects apart from those of other frames and files.
    """

    source: FileSource
    packed: bytes
    size: tuple[int, int]
    keys: tuple[Key, ...]

    def unpack(self) -> Mask:
        """The index map, uint8 (H, W)."""
        return np.frombuffer(zlib.decompress(self.packed), np.uint8).reshape(self.size)


def read_labels(
    source: FileSource, frame: int | None, info: ClipInfo, *, resize: bool
) -> Iterator[tuple[int | None, Labels]]:
    """Read an annotation file: which frame each of its pictures belongs to, and its objects.

    Args:
        source: the file, and perhaps which picture of it.
        frame: the frame that the user gave, if any.
        info: properties of the clip.
        resize: scale what was annotated on frames of another size.

    Raises:
        InputError: damaged, no picture is of this clip, or of another size.
    """
    size = (info.height, info.width)
    pictures = [picture for picture in read_annotations(source.path, size) if picture.objects]
    if source.item:
        pictures = [find_picture(pictures, source.item, source.path)]
    if not pictures:
        raise InputError(f"{source} contains no object")
    if len(pictures) == 1 and (frame is not None or pictures[0].index is None):
        numbered = [(frame, pictures[0])]
    elif frame is not None:
        at_frame = [picture for picture in pictures if picture.index == frame]
        if len(at_frame) != 1:
            raise InputError(f"{source} contains {in_short(pictures)}", f"choose one: {frame}={source.path}#PICTURE")
        numbered = [(frame, at_frame[0])]
    else:
        numbered = [(_number_of(picture, pictures, source, info), picture) for picture in pictures]
    for number, picture in numbered:
        yield number, _pack(source, picture, info, resize)


def _number_of(picture: LabelledFrame, pictures: Sequence[LabelledFrame], source: FileSource, info: ClipInfo) -> int:
    """The frame of a picture: by its number in the file, or else by its name."""
    if picture.index is not None:
        return picture.index
    stem = same_form(Path(picture.name).stem)
    names = [same_form(path.stem) for path in list_pictures(info.path)] if info.path.is_dir() else []
    if stem in names:
        return names.index(stem)
    if not names and stem.isdecimal():
        return int(stem)
    frames = f"{names[0]} to {names[-1]}" if names else "numbered like 00012"
    hint = f"choose one: {source.path}#{picture.name}, or FRAME={source.path}#{picture.name}"
    raise InputError(f"{source} is for {in_short(list(pictures))}; the frames of {info.path} are {frames}", hint)


def _pack(source: FileSource, picture: LabelledFrame, info: ClipInfo, resize: bool) -> Labels:
    if len(picture.objects) > 254:
        count = f"{len(picture.objects)} objects; at most 254 can be segmented"
        raise InputError(f"{source}: {picture.name} has {count}")
    mask = np.zeros(picture.size, np.uint8)
    keys: list[Key] = []
    for number, found in enumerate(picture.objects, start=1):
        mask[found.mask] = number  # where objects overlap, the later lies on top
        alike = sum(key[:2] == (found.label, found.track) for key in keys)
        keys.append((found.label, found.track, alike))
    size = (info.height, info.width)
    name = f"{source}: {picture.name}"
    mask = fit_mask(mask, name, size, resize=resize, pixel_aspect=info.pixel_aspect)
    return Labels(source, zlib.compress(mask.tobytes(), 1), size, tuple(keys))


def read_array(source: FileSource, *, clean: bool) -> MaskFile:
    """Read an index map (H, W), or one plane for each object (N, H, W), from NumPy's files.

    Raises:
        InputError: it cannot be read, is of another shape, or planes overlap.
    """
    array = np.squeeze(_load_array(source))
    if array.dtype.kind not in "biuf" or array.ndim not in (2, 3):
        found = f"{array.dtype} of shape {array.shape}"
        raise InputError(f"{source} is {found}; expected object numbers (H, W) or one plane for each object (N, H, W)")
    if array.ndim == 2:
        return _as_grey(source, array, clean)
    planes = array > (0.5 if array.dtype.kind == "f" else 0)
    if array.dtype.kind != "b" and array.max(initial=0) > 1 and not set(np.unique(array)) <= {0, 255}:
        raise InputError(f"{source} has {len(array)} masks; expected one", "save only the mask of the frame")
    if len(planes) > 254:
        raise InputError(f"{source} has {len(planes)} planes; expected one for each object, 254 at most")
    mask = np.zeros(planes.shape[1:], np.uint8)
    for number, plane in enumerate(planes, start=1):
        if (other := mask[plane & (mask > 0)]).size:
            raise InputError(f"{source}: objects {other[0]} and {number} overlap on {other.size} pixels")
        mask[plane] = number
    return MaskFile(mask)


def _as_grey(source: FileSource, array: NDArray[np.generic], clean: bool) -> MaskFile:
    kind = np.uint8 if array.dtype == np.bool_ else np.float64 if array.dtype.kind == "f" else np.int64
    wide = array.astype(kind)
    if wide.dtype == np.int64 and (wide.min(initial=0) < 0 or wide.max(initial=0) > 65535):
        raise InputError(f"{source} has values from {wide.min()} to {wide.max()}", "object ids are 1 to 254")
    picture = Image.fromarray(wide if wide.dtype == np.uint8 else wide.astype(np.float32))
    return interpret(source.path, picture, clean=clean)


def _load_array(source: FileSource) -> NDArray[np.generic]:
    try:
        loaded = np.load(source.path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            names = [source.item] if source.item else list(loaded.keys())
            if len(names) == 1 and names[0] in loaded:
                return np.asarray(loaded[names[0]])
            held = ", ".join(loaded.keys())
    except (*DAMAGED, TokenError) as error:
        raise InputError(f"cannot read the array {source}: {error}") from error
    raise InputError(f"{source.path} contains the arrays {held}", f"choose one: {source.path}#NAME")


def with_object(mask: Mask, source: FileSource) -> Mask:
    """Renumber the only object of a mask to the number that the user gave.

    Raises:
        InputError: it has several objects.
    """
    ids = object_ids(mask)
    if source.object_id is None or not ids:
        return mask
    if len(ids) > 1:
        found = ", ".join(map(str, ids))
        raise InputError(
            f"{source} has the objects {found}; OBJECT= in front needs a file with one object", "leave out OBJECT="
        )
    return np.where(mask == ids[0], np.uint8(source.object_id), mask)


def is_annotation(path: Path) -> bool:
    """Whether a file is one of annotations, by its ending."""
    return path.suffix.lower() in ENDINGS


def masks_in_folder(folder: Path, info: ClipInfo) -> Iterator[tuple[int, Path]]:
    """Find the masks in a folder; their names give the frames.

    Raises:
        InputError: there is none, one belongs to no frame, or two to one.
    """
    endings = PICTURES | ARRAYS | {".json", ".txt"}
    files = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in endings and p.name[0] != "." and p.is_file()]
    if not files:
        raise InputError(f"{folder} contains no masks", "supported: " + ", ".join(sorted(endings)))
    if info.path.is_dir():
        numbers = {same_form(path.stem): number for number, path in enumerate(list_pictures(info.path))}
    else:
        numbers = {path.stem: int(path.stem) for path in files if path.stem.isdecimal()}
    names = [same_form(path.stem) for path in files]
    for name, path in zip(names, files, strict=True):
        if name not in numbers:
            expected = f"like {next(iter(numbers))}" if info.path.is_dir() else "by its number, like 00012.png"
            raise InputError(f"{path} does not belong to a frame of {info.path}", f"name masks {expected}")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        first, second = [path for name, path in zip(names, files, strict=True) if name == twice[0]][:2]
        raise InputError(f"{first} and {second} are masks of the same frame", "move one of them to another folder")
    for name, path in zip(names, files, strict=True):
        yield numbers[name], path
