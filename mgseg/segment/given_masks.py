"""The masks a user gives for a clip: which frame each belongs to, checked before anything is computed."""

import zlib
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import InputError
from mgseg.files.masks import VOID, WHITE, MaskFile, as_index_map, object_ids, read_mask
from mgseg.files.names import same_form
from mgseg.files.pictures import list_pictures
from mgseg.files.video import ClipInfo

MaskSource = str | Path | NDArray[np.uint8]


class GivenMasks:
    """All masks given for a clip, by frame. Files are read again when their frame comes, so memory stays small.

    Args:
        masks: one mask for the first frame; masks by frame number (None: the first frame); or a folder of masks
            named like the frames. A mask is a file, or an (H, W) index map of uint8 or bool.
        info: of the clip.
        start: first frame that will be read, see `read_frames`.
        end: first frame that will not.
        clean: see `read_mask`.
        resize: see `read_mask`.
        zero_is_background: 0 in a later mask says background, so that a mask without any object says something, too.

    Raises:
        InputError: a mask cannot be used, or there is no frame for it.
    """

    def __init__(
        self,
        masks: MaskSource | Mapping[int | None, MaskSource],
        info: ClipInfo,
        start: int | Fraction = 0,
        end: int | Fraction | None = None,
        *,
        clean: bool = False,
        resize: bool = False,
        zero_is_background: bool = False,
    ) -> None:
        self._info, self._size = info, (info.height, info.width)
        self._turned_by = ("EXIF" if info.path.is_dir() else "the file") if info.is_turned else None
        self._clean, self._resize = clean, resize
        self.zero_is_background = zero_is_background
        self._ids: set[int] = set()  # in any mask
        self._ids_of_colours: dict[bytes, int] = {}
        self.palette: bytes | None = None
        self.checksum = 0  # of all masks and their frames
        self._sources = _by_frame(masks, info)
        if isinstance(start, int) and None in self._sources:
            if start in self._sources:
                raise InputError(f"two masks are given for frame {start}")
            self._sources[start] = self._sources.pop(None)
        for number, source in sorted(self._sources.items(), key=lambda item: item[0] or 0):
            _check_frame(number, source, info, start, end)
            _check_place(source, info)
            mask = self._read(source)
            ids = object_ids(mask)
            self._ids.update(ids)
            if not ids and not (zero_is_background and self._ids):
                del self._sources[number]
            self.checksum = zlib.crc32(mask.tobytes(), zlib.crc32(str(number).encode(), self.checksum))
        if not self._ids:
            raise InputError(f"no mask given for {info.path} marks an object")
        self._unused = set(self._sources)

    @property
    def first(self) -> int | None:
        """The first frame with a mask; None if that is whichever frame comes first."""
        return min(number for number in self._sources if number is not None) if None not in self._sources else None

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The ids in all masks, ascending."""
        return tuple(sorted(self._ids))

    @property
    def paths(self) -> list[Path]:
        """The files that are read."""
        return [Path(source) for source in self._sources.values() if not isinstance(source, np.ndarray)]

    @property
    def unused(self) -> list[int]:
        """Frames with a mask that have not been asked for."""
        return sorted(number for number in self._unused if number is not None)

    def take(self, number: int, is_first: bool) -> NDArray[np.uint8] | None:
        """The mask of a frame, uint8 (H, W), or None. `is_first`: it is the first frame read."""
        key = None if is_first and None in self._sources else number
        if key is None and number in self._sources:
            raise InputError(f"two masks are given for frame {number}")
        if key not in self._sources:
            return None
        self._unused.discard(key)
        return self._read(self._sources[key])

    def _read(self, source: MaskSource) -> NDArray[np.uint8]:
        if isinstance(source, np.ndarray):
            return as_index_map(source, self._size)
        file = read_mask(
            Path(source),
            size=self._size,
            clean=self._clean,
            resize=self._resize,
            pixel_aspect=self._info.pixel_aspect,
            turned_by=self._turned_by,
            may_be_empty=len(self._sources) > 1,
        )
        if file.by_colour and file.palette:
            return self._same_ids(file, file.palette)
        if file.is_white:  # the object that is white in another mask, else object 1
            number = self._ids_of_colours.setdefault(WHITE, 1)
            return np.where(file.mask == 1, np.uint8(number), file.mask)
        for number in object_ids(file.mask):
            self._ids_of_colours.setdefault(file.colour_of(number), number)
        self.palette = self.palette or file.palette
        return file.mask

    def _same_ids(self, file: MaskFile, colours: bytes) -> NDArray[np.uint8]:
        """Give a colour the same id in every file, and no id that another mask has; within one file ids go by area."""
        table = np.zeros(256, np.uint8)
        for number in object_ids(file.mask):
            colour = colours[3 * number : 3 * number + 3]
            if colour not in self._ids_of_colours:
                free = next((i for i in range(1, VOID) if i not in self._ids), None)
                if free is None:
                    raise InputError("the masks given have more than 254 objects between them")
                self._ids_of_colours[colour] = free
                self._ids.add(free)
            table[number] = self._ids_of_colours[colour]
        palette = bytearray(self.palette or colours)
        for colour, number in self._ids_of_colours.items():
            palette[3 * number : 3 * number + 3] = colour
        self.palette = bytes(palette)
        return table[file.mask]


def _by_frame(masks: MaskSource | Mapping[int | None, MaskSource], info: ClipInfo) -> dict[int | None, MaskSource]:
    if isinstance(masks, Mapping):
        return dict(masks)
    if isinstance(masks, np.ndarray) or not Path(masks).is_dir():
        return {None: masks}
    files = list_pictures(Path(masks))
    if info.path.is_dir():
        numbers = {_name(path): number for number, path in enumerate(list_pictures(info.path))}
    else:
        numbers = {_name(path): int(path.stem) for path in files if path.stem.isdecimal()}
    for path in files:
        if _name(path) not in numbers:
            expected = f"like {next(iter(numbers))}" if info.path.is_dir() else "by its number, like 00012.png"
            raise InputError(f"{path} does not belong to a frame of {info.path}", f"name a mask {expected}")
    twice = [name for name, count in Counter(map(_name, files)).items() if count > 1]
    if twice:
        first, second = [path for path in files if _name(path) == twice[0]][:2]
        raise InputError(f"{first} and {second} are masks of the same frame", "move one of them to another folder")
    return {numbers[_name(path)]: path for path in files}


def _name(path: Path) -> str:
    return same_form(path.stem)


def _check_place(source: MaskSource, info: ClipInfo) -> None:
    """Refuse a mask that would be taken for a frame of the clip."""
    if not isinstance(source, np.ndarray) and Path(source).resolve().parent == info.path.resolve():
        taken = f"the mask {source} lies among the frames of {info.path}, and would be taken for one"
        raise InputError(taken, "move it to another folder")


def _check_frame(
    number: int | None, source: MaskSource, info: ClipInfo, start: int | Fraction, end: int | Fraction | None
) -> None:
    if number is None:
        return
    name = "the mask" if isinstance(source, np.ndarray) else f"the mask {source}"
    if info.is_counted and info.num_frames and number >= info.num_frames:
        held = f"the clip's frames are 0 to {info.num_frames - 1}"
        raise InputError(f"{name} is for frame {number}, but {held}")
    if (isinstance(start, int) and number < start) or (isinstance(end, int) and number >= end):
        raise InputError(f"{name} is for frame {number}, outside of --start and --end")
