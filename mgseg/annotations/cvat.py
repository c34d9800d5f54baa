"""CVAT: "CVAT for video 1.1" (XML with a track an object) and "Segmentation mask 1.1" (a zip of pictures).

A track has one polygon a frame: parts and holes are joined by bridges of no width. The zip is lossless.
Source: docs.cvat.ai, "XML annotation format" and "Segmentation mask".
"""

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.annotations.frames import AnnotationWriter, Clip, LabelledFrame, LabelledObject
from mgseg.annotations.shapes import DAMAGED, Mask, check_frame, check_polygon, fill, join, trace
from mgseg.errors import InputError
from mgseg.files.masks import DAVIS_PALETTE
from mgseg.files.pictures import check_size
from mgseg.files.whole_file import make_folder, whole_file

_COLOURS = np.frombuffer(DAVIS_PALETTE, np.uint8).reshape(256, 3)


class CvatWriter(AnnotationWriter):
    """Writes `FILE.xml`, "CVAT for video 1.1"."""

    def __init__(self, path: Path, clip: Clip) -> None:
        super().__init__(path, clip)
        self._tracks: dict[int, IO[str]] = {}
        self._seen: dict[int, int] = {}  # object id -> last frame on which it was
        self._num_frames = 0

    def add(
        self, index: int, name: str, mask: NDArray[np.uint8], confidence: Mapping[int, float] | None = None
    ) -> None:
        """Add a frame to the tracks of its objects; a track that ends here is closed."""
        self._num_frames = max(self._num_frames, index + 1)
        found = dict(self.objects(mask))
        for object_id in [n for n, last in self._seen.items() if last == index - 1 and n not in found]:
            self._shape(object_id, index, np.array([[0, 0], [1, 0], [1, 1]]), outside=True)
        for object_id, pixels in found.items():
            self._seen[object_id] = index
            self._shape(object_id, index, join(trace(pixels)), outside=False)

    def _shape(self, object_id: int, frame: int, ring: NDArray[np.float64], outside: bool) -> None:
        if object_id not in self._tracks:
            self._tracks[object_id] = self.scratch()
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in ring)
        state = f'frame="{frame}" keyframe="1" outside="{int(outside)}" occluded="0" z_order="0"'
        self._tracks[object_id].write(f'    <polygon {state} points="{points}"></polygon>\n')

    def finish(self) -> None:
        """Write the XML file from the collected tracks."""
        clip = self.clip
        count = clip.num_frames or self._num_frames
        labels = dict.fromkeys(clip.label(number) for number in self._tracks)
        make_folder(self.path.parent)
        with whole_file(self.path) as part, part.open("w", encoding="utf-8") as file:
            file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n')
            file.write(f"    <task>\n      <name>{escape(clip.name)}</name>\n      <size>{count}</size>\n")
            file.write("      <mode>interpolation</mode>\n      <labels>\n")
            for label in labels:
                file.write(f"        <label><name>{escape(label)}</name><attributes></attributes></label>\n")
            size = f"<width>{clip.size[1]}</width><height>{clip.size[0]}</height>"
            file.write(f"      </labels>\n      <original_size>{size}</original_size>\n    </task>\n  </meta>\n")
            for object_id, shapes in sorted(self._tracks.items()):
                label = quoteattr(clip.label(object_id))
                file.write(f'  <track id="{object_id}" label={label} source="file">\n')
                shapes.seek(0)
                while text := shapes.read(1 << 20):
                    file.write(text)
                file.write("  </track>\n")
            file.write("</annotations>\n")


class CvatMaskWriter(AnnotationWriter):
    """Writes `FILE.zip`, "Segmentation mask 1.1": a colour a label in SegmentationClass, an object in
    SegmentationObject."""

    def __init__(self, path: Path, clip: Clip) -> None:
        super().__init__(path, clip)
        self._labels: dict[str, int] = {}
        self._names = self.scratch()
        part = self._exits.enter_context(whole_file(make_folder(path.parent) / path.name))
        self._zip = self._exits.enter_context(zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED))

    def add(
        self, index: int, name: str, mask: NDArray[np.uint8], confidence: Mapping[int, float] | None = None
    ) -> None:
        """Add the two pictures of a frame."""
        classes = np.zeros_like(mask)
        for object_id, pixels in self.objects(mask):
            label = self.clip.label(object_id)
            classes[pixels] = self._labels.setdefault(label, len(self._labels) + 1)
        objects = np.where(mask == 255, np.uint8(0), mask)
        for folder, picture in (("SegmentationClass", classes), ("SegmentationObject", objects)):
            data = io.BytesIO()
            Image.fromarray(_COLOURS[picture]).save(data, "PNG")
            self._zip.writestr(f"{folder}/{name}.png", data.getvalue())
        self._names.write(f"{name}\n")

    def finish(self) -> None:
        """Add the lists of labels and names."""
        lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
        for label, number in self._labels.items():
            colour = ",".join(map(str, _COLOURS[number].tolist()))
            lines.append(f"{label.replace(':', ' ')}:{colour}::")
        self._zip.writestr("labelmap.txt", "\n".join(lines) + "\n")
        self._names.seek(0)
        self._zip.writestr("ImageSets/Segmentation/default.txt", self._names.read())


def read_cvat(path: Path) -> Iterator[LabelledFrame]:
    """Read "CVAT for video 1.1" or "CVAT for images 1.1": polygons, boxes and masks.

    Raises:
        InputError: the file has another format, or a shape is damaged.
    """
    try:
        yield from _read_root(ElementTree.parse(path).getroot(), path)
    except DAMAGED as error:
        raise InputError(f"{path} cannot be read as a CVAT annotation file: {error!r}") from error


def _read_root(root: ElementTree.Element, path: Path) -> Iterator[LabelledFrame]:
    if root.tag != "annotations":
        raise InputError(
            f"{path} is not a CVAT annotation file: expected the root element <annotations>, found <{root.tag}>"
        )
    if root.find("image") is not None:
        yield from (_read_image(image, path) for image in root.iter("image"))
        return
    size = root.find("meta/task/original_size")
    size = root.find("meta/job/original_size") if size is None else size
    if size is None:
        raise InputError(f"{path} does not give the frame size: meta/task/original_size is missing")
    yield from _read_tracks(root, check_frame(size.findtext("width"), size.findtext("height"), str(path)), path)


def read_cvat_zip(path: Path) -> Iterator[LabelledFrame]:
    """Read CVAT's exports as zip: "Segmentation mask 1.1", or one that holds annotations.xml.

    Raises:
        InputError: the zip has another format or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "annotations.xml" in names:
                with archive.open("annotations.xml") as file:
                    yield from _read_root(ElementTree.parse(file).getroot(), path)
                return
            objects = sorted(name for name in names if name.startswith("SegmentationObject/") and name[-4:] == ".png")
            if not objects:
                hint = "export the task from CVAT as 'Segmentation mask 1.1' or 'CVAT for video 1.1'"
                raise InputError(f"{path} contains neither SegmentationObject/ nor annotations.xml", hint)
            labels = _read_labelmap(archive.read("labelmap.txt").decode("utf-8-sig"))
            for name in objects:
                yield _read_colours(archive, name, labels)
    except DAMAGED as error:
        raise InputError(f"{path} cannot be read as a CVAT zip file: {error!r}") from error


def _read_labelmap(text: str) -> dict[bytes, str]:
    """Return the label of each colour."""
    labels = {}
    for line in text.splitlines():
        if line.strip() and line[0] != "#":
            label, colour, *_ = line.split(":")
            labels[bytes(int(value) for value in colour.split(","))] = label
    return labels


def _read_colours(archive: zipfile.ZipFile, name: str, labels: Mapping[bytes, str]) -> LabelledFrame:
    """Read a frame from its two pictures: each colour of the first is an object, labelled by the second."""
    objects, classes = (
        _read_rgb(archive, place) for place in (name, name.replace("SegmentationObject", "SegmentationClass", 1))
    )
    if objects.shape != classes.shape:
        raise InputError(f"{name} and the SegmentationClass picture of the same name differ in size")
    found = []
    for colour in np.unique(objects.reshape(-1, 3), axis=0):
        pixels = (objects == colour).all(-1)
        label = labels.get(classes[pixels][0].tobytes(), "unknown")
        if colour.any() and label != "background":
            number = np.flatnonzero((colour == _COLOURS).all(1))
            found.append(LabelledObject(label, int(number[0]) if len(number) else None, pixels))
    stem = name.split("/", 1)[1].removesuffix(".png")
    return LabelledFrame(stem, None, objects.shape[:2], tuple(found))


def _read_rgb(archive: zipfile.ZipFile, name: str) -> NDArray[np.uint8]:
    with archive.open(name) as file, Image.open(file) as picture:
        check_size(Path(name), *picture.size)
        return np.asarray(picture.convert("RGB"))


def _read_image(image: ElementTree.Element, path: Path) -> LabelledFrame:
    size = check_frame(image.attrib["width"], image.attrib["height"], f"{path}, image {image.attrib.get('name')}")
    objects = []
    for shape in image:
        if shape.tag in _SHAPES:
            group = shape.attrib.get("group_id")
            pixels = _pixels(shape, size, f"{path}, image {image.attrib.get('name')}")
            objects.append(LabelledObject(shape.attrib["label"], int(group) if group else None, pixels))
    return LabelledFrame(image.attrib["name"], int(image.attrib.get("id", 0)), size, tuple(objects))


def _read_tracks(root: ElementTree.Element, size: tuple[int, int], path: Path) -> Iterator[LabelledFrame]:
    frames: dict[int, list[tuple[str, int, ElementTree.Element]]] = {}
    for track in root.iter("track"):
        for shape in track:
            if shape.tag in _SHAPES and shape.attrib.get("outside") != "1" and shape.attrib.get("keyframe") != "0":
                entry = track.attrib["label"], int(track.attrib["id"]), shape
                frames.setdefault(int(shape.attrib["frame"]), []).append(entry)
    for number, shapes in sorted(frames.items()):
        found = [LabelledObject(a, b, _pixels(shape, size, f"{path}, frame {number}")) for a, b, shape in shapes]
        yield LabelledFrame(f"{number:05d}", number, size, tuple(found))


_SHAPES = {"polygon", "box", "mask"}


def _pixels(shape: ElementTree.Element, size: tuple[int, int], where: str) -> Mask:
    values = shape.attrib
    if shape.tag == "polygon":
        return fill([check_polygon([pair.split(",") for pair in values["points"].split(";")], where)], size)
    result = np.zeros(size, bool)
    if shape.tag == "box":
        left, top, right, bottom = (max(0, round(float(values[name]))) for name in ("xtl", "ytl", "xbr", "ybr"))
        result[top:bottom, left:right] = True
        return result
    left, top, width, height = (int(float(values[name])) for name in ("left", "top", "width", "height"))
    lengths = [int(n) for n in values["rle"].split(",")]
    if left < 0 or top < 0 or left + width > size[1] or top + height > size[0] or sum(lengths) != width * height:
        raise InputError(f"{where}: the mask lies partly outside the frame of {size[1]}x{size[0]}")
    runs = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    result[top : top + height, left : left + width] = runs.reshape(height, width)
    return result
