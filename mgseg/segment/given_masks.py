"""Given masks of a clip: assigns each to a frame, and checks all before anything is computed."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import InputError
from mgseg.files.grabcut import find_opencv
from mgseg.files.mask_video import VIDEOS
from mgseg.files.masks import VOID, as_index_map, fit_mask, object_ids, read_mask
from mgseg.files.video import ClipInfo
from mgseg.segment.drawn_shapes import draw_shapes, needs_frame
from mgseg.segment.mask_checks import Part, check_apart, check_frame, check_place, listed
from mgseg.segment.mask_parts import (
    ARRAYS,
    Labels,
    is_annotation,
    masks_in_folder,
    read_array,
    read_labels,
    with_object,
)
from mgseg.segment.mask_sources import FileSource, MaskSource, MaskSources, Shape, parse_mask
from mgseg.segment.object_numbers import ObjectNumbers
from mgseg.segment.video_masks import VideoMasks

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class MaskReading:
    """How mask files are read.

    Attributes:
        clean: repair masks with smooth edges or specks, which are refused otherwise.
        resize: scale masks of another size to the clip's, which are refused otherwise.
        mask_from: use only this frame of a mask video; otherwise frame N of it is the mask of frame N.
    """

    clean: bool = False
    resize: bool = False
    mask_from: int | None = None


class GivenMasks:
    """All given masks of a clip, by frame. A file is read again at its frame, so that little memory is needed.

    Args:
        masks: for the first frame; by frame number (None: the first frame), one or several for each; or a folder of
            masks named like the frames. A mask is a picture, an annotation file, an array file, a shape, see
            `parse_mask`, or an (H, W) index map of uint8 or bool.
        info: properties of the clip.
        start: first frame to read, see `read_frames`.
        end: frame to stop before.
        clean: see `read_mask`.
        resize: see `read_mask`.
        zero_is_background: treat 0 in later masks as background, so that a mask without objects is useful, too.
        names: names of the objects by number; the labels of annotation files must be among them. None: any label.
        mask_from: use only this frame of a mask video.

    Raises:
        InputError: a mask cannot be used, there is no frame for it, or two for one frame overlap.
    """

    def __init__(
        self,
        masks: MaskSources | Mapping[int | None, MaskSources],
        info: ClipInfo,
        start: int | Fraction = 0,
        end: int | Fraction | None = None,
        *,
        clean: bool = False,
        resize: bool = False,
        zero_is_background: bool = False,
        names: Mapping[int, str] | None = None,
        mask_from: int | None = None,
    ) -> None:
        self._info, self._size = info, (info.height, info.width)
        self._turned_by = ("EXIF" if info.path.is_dir() else "the file") if info.is_turned else None
        self._clean, self._resize = clean, resize
        self.zero_is_background = zero_is_background
        self._has_begun = False  # an object was seen in a mask that is a video
        self._numbers = ObjectNumbers(names)
        self._shape_ids: dict[tuple[int | None, int], int] = {}
        self.objects: dict[int | None, tuple[int, ...]] = {}  # frame -> ids that its masks state
        self.checksums: dict[int | None, str] = {}  # frame -> checksum of its masks
        self.arguments: list[str] = []  # the masks as `mgseg segment --mask` takes them, but for arrays
        self._parts: dict[int | None, list[Part]] = {}
        self._video: VideoMasks | None = None
        self._mask_from = mask_from
        self.paths: list[Path] = []  # files that are read
        for frame, source in listed(masks):
            self._add(frame, source)
            if not isinstance(source, np.ndarray):
                self.arguments.append(str(source) if frame is None else f"{frame}={source}")
        if isinstance(start, int) and None in self._parts:
            self._parts[start] = self._parts.pop(None) + self._parts.get(start, [])
        for number in sorted(self._parts, key=lambda key: key or 0):
            check_frame(number, self._parts[number], info, start, end)
            self._check(number)
        if mask_from is not None and not any(path.suffix.lower() in VIDEOS for path in self.paths):
            raise InputError(
                "--mask-from takes one frame of a mask video, but no mask is a video", "leave out --mask-from"
            )
        if not self._numbers.ids:
            raise InputError(f"none of the masks for {info.path} marks an object")
        self._unused = set(self._parts)

    @property
    def first(self) -> int | None:
        """The first frame with a mask; None if that is whichever frame comes first."""
        if self._video:
            return None
        return min(number for number in self._parts if number is not None) if None not in self._parts else None

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects in all masks, ascending."""
        return tuple(sorted(self._numbers.ids))

    @property
    def names(self) -> Mapping[int, str]:
        """Names of objects: those given, and the labels of annotation files."""
        return self._numbers.names

    @property
    def palette(self) -> bytes | None:
        """Colours of the given masks, 768 bytes; None if they have none."""
        return self._numbers.palette

    @property
    def cut_out(self) -> list[int | None]:
        """Frames whose mask GrabCut finds from a box or strokes."""
        return [number for number in self._parts if needs_frame(self._shapes(number))]

    @property
    def unused(self) -> list[int]:
        """Frames with a mask that was not taken."""
        return sorted(number for number in self._unused if number is not None)

    def take(self, number: int, image: NDArray[np.uint8], is_first: bool) -> Mask | None:
        """Return the mask of a frame, uint8 (H, W), or None.

        Args:
            number: number of the frame.
            image: uint8 (H, W, 3), RGB, its picture.
            is_first: it is the first frame read.
        """
        if self._video:
            return self._with_video(number, image)
        key = None if is_first and None in self._parts else number
        if key is None and number in self._parts:
            raise InputError(f"two masks are given for frame {number}")
        if key not in self._parts:
            return None
        self._unused.discard(key)
        return self.read(key, image)

    def read(self, number: int | None, image: NDArray[np.uint8]) -> Mask:
        """The mask of a frame that has one, uint8 (H, W), however often; `image` as for `take`."""
        return self._with_shapes(number, self._joined(number), image)

    def known_before(self, number: int) -> set[int]:
        """Return the objects in masks of earlier frames."""
        return {i for frame, ids in self.objects.items() if frame is not None and frame < number for i in ids}

    def _with_video(self, number: int, image: NDArray[np.uint8]) -> Mask | None:
        """The mask of a frame of which a video says all, and perhaps other masks, too."""
        assert self._video
        mask = self._video.at(number)
        if number in self._parts:
            self._unused.discard(number)
            other = self._with_shapes(number, self._joined(number), image)
            check_apart(mask, other, number, "another mask")
            mask = np.where(other > 0, other, mask)
        self._has_begun |= bool(object_ids(mask))
        return mask if self._has_begun else None

    def _add_video(self, number: int | None, source: FileSource) -> None:
        if number is not None or self._video:
            raise InputError(
                f"{source} is a video: it already has a mask for every frame",
                "give it without FRAME= and only once; to use one of its frames alone: --mask-from N",
            )
        self.paths.append(source.path)
        video = VideoMasks(source, self._info, self._fit, is_whole=self._mask_from is None)
        self._numbers.ids.add(video.object_id)
        if self._mask_from is not None:
            self._parts.setdefault(self._mask_from, []).append(video.at(self._mask_from))
            return
        self._video, self.zero_is_background = video, True
        self.checksums[None], self.objects[None] = f"{video.checksum:08x}", (video.object_id,)

    def _add(self, number: int | None, source: MaskSource) -> None:
        """Put a source to the frames that it speaks of."""
        if isinstance(source, str):
            own, source = parse_mask(source)
            number = number if own is None else own
        source = FileSource(source) if isinstance(source, Path) else source
        if isinstance(source, FileSource) and source.path.is_dir():
            if number is not None or source.object_id is not None:
                raise InputError(
                    f"{source.path} is a folder, which takes no number in front", "name its files like the frames"
                )
            for frame, path in masks_in_folder(source.path, self._info):
                self._add(frame, path)
        elif isinstance(source, FileSource) and source.path.suffix.lower() in VIDEOS:
            self._add_video(number, source)
        elif isinstance(source, FileSource) and is_annotation(source.path):
            self.paths.append(source.path)
            for index, labels in read_labels(source, number, self._info, resize=self._resize):
                self._parts.setdefault(index, []).append(labels)
        else:
            if isinstance(source, FileSource):
                self.paths.append(source.path)
                check_place(source.path, self._info)
            self._parts.setdefault(number, []).append(source)

    def _check(self, number: int | None) -> None:
        """Read a frame's masks as far as that can be done without its picture; forget it if they say nothing."""
        mask, shapes = self._joined(number), self._shapes(number)
        if needs_frame(shapes):
            find_opencv()
        for index, shape in enumerate(shapes):
            shape.check(self._info.width, self._info.height)
            if (number, index) not in self._shape_ids:
                self._shape_ids[number, index] = self._shape_id(number, index, shapes)
        ids = object_ids(mask)
        self._numbers.ids.update(ids, (self._shape_ids[number, index] for index in range(len(shapes))))
        if shapes and not needs_frame(shapes):
            mask = self._with_shapes(number, mask, np.zeros((*self._size, 3), np.uint8))
        said = f"{number}{' '.join(map(str, shapes))}"
        self.checksums[number] = f"{zlib.crc32(mask.tobytes(), zlib.crc32(said.encode())):08x}"
        shape_ids = (self._shape_ids[number, index] for index in range(len(shapes)))
        self.objects[number] = tuple(sorted({*ids, *shape_ids}))
        if not ids and not shapes and not (self.zero_is_background and self._numbers.ids):
            del self._parts[number], self.checksums[number], self.objects[number]

    def _shapes(self, number: int | None) -> list[Shape]:
        return [part for part in self._parts[number] if isinstance(part, Shape)]

    def _shape_id(self, number: int | None, index: int, shapes: Sequence[Shape]) -> int:
        shape = shapes[index]
        if shape.object_id is not None:
            return shape.object_id
        if not shape.is_stroke:
            return self._numbers.free()
        if index == 0:
            raise InputError(
                f"{shape} belongs to no object",
                "write its object in front, as in 1={shape}, or give a box: or poly: before it",
            )
        return self._shape_ids[number, index - 1]

    def _with_shapes(self, number: int | None, mask: Mask, image: NDArray[np.uint8]) -> Mask:
        """Add a frame's shapes to what its other masks say."""
        shapes = self._shapes(number)
        if not shapes:
            return mask
        numbered = [(self._shape_ids[number, place], shape) for place, shape in enumerate(shapes)]
        drawn = draw_shapes(numbered, mask, image)
        for object_id, shape in numbered:
            if shape.kind == "poly" and not needs_frame([s for i, s in numbered if i == object_id]):
                check_apart(mask, np.where(drawn == object_id, drawn, np.uint8(0)), number, str(shape))
        return np.where((mask > 0) & (mask != VOID), mask, drawn)

    def _joined(self, number: int | None) -> Mask:
        """What the files and arrays say of a frame, together."""
        result = np.zeros(self._size, np.uint8)
        several = len(self._parts) > 1 or len(self._parts[number]) > 1
        for part in self._parts[number]:
            if isinstance(part, Shape):
                continue
            mask = self._read(part, object_ids(result), may_be_empty=several)
            check_apart(result, mask, number, str(part) if isinstance(part, FileSource) else "another mask")
            result = np.where((result == 0) | (result == VOID) & (mask > 0), mask, result)
        return result

    def _read(self, part: Mask | FileSource | Labels, others: Sequence[int], *, may_be_empty: bool) -> Mask:
        if isinstance(part, np.ndarray):
            return as_index_map(part, self._size)
        if isinstance(part, Labels):
            return with_object(self._numbers.of_labels(part), part.source)
        if part.path.suffix.lower() in ARRAYS:
            file = read_array(part, clean=self._clean)
        else:
            file = read_mask(part.path, clean=self._clean, may_be_empty=may_be_empty)
        file = replace(file, mask=self._fit(file.mask, f"the mask {part}"))
        if part.object_id is not None:
            return with_object(file.mask, part)
        return self._numbers.of_file(file, others)

    def _fit(self, mask: Mask, name: str) -> Mask:
        aspect, turned_by = self._info.pixel_aspect, self._turned_by
        return fit_mask(mask, name, self._size, resize=self._resize, pixel_aspect=aspect, turned_by=turned_by)
