"""Project of one clip: masks, objects and history, saved at every change in a folder beside the clip.

CLIP.mgseg/
    project.json        objects and the place in the history
    given/00012.png     masks that the user made or corrected: whole frames, 0 is background
    masks/00013.png     what `mgseg segment` made of them, with its notes on how
    history/000001.npz  one change each, for undo and redo
    cache/              small pictures of the frames; may be deleted
"""

import json
import re
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgseg.edit.history import Change, History
from mgseg.errors import InputError, MgsegError
from mgseg.files.masks import DAVIS_PALETTE, VOID, read_confidence, read_index_map, write_mask
from mgseg.files.video import ClipInfo
from mgseg.files.whole_file import make_folder, write_whole
from mgseg.outputs.timeline import DoubtfulStretch, find_stretches

Mask = NDArray[np.uint8]
FORMAT = 1
MAX_OBJECTS = VOID - 1
_UNWRITTEN = 32  # more than the masks that wait for their turn to be written
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_BRIGHT = ("#ff4d4d", "#3fb950", "#4c9aff", "#ffb020", "#b16cff", "#22c7c7", "#ff7ac6", "#a3d94a", "#ff8a4c")


class ConflictError(MgsegError):
    """A frame was changed elsewhere since the mask that is being saved was loaded."""


@dataclass(frozen=True)
class ObjectInfo:
    """One object of a clip.

    Attributes:
        id: 1 to 254, its value in the masks.
        name: shown to the user and used by exports.
        colour: "#rrggbb".
        hidden: not drawn.
        locked: not painted over.
        deleted: its pixels count as background; kept so that deleting can be undone.
    """

    id: int
    name: str
    colour: str
    hidden: bool = False
    locked: bool = False
    deleted: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.id, int) and 1 <= self.id <= MAX_OBJECTS):
            raise InputError(f"an object's number must be 1 to {MAX_OBJECTS}, found {self.id!r}")
        if not (isinstance(self.name, str) and len(self.name) <= 100):
            raise InputError("an object's name must be a text of at most 100 characters")
        if not (isinstance(self.colour, str) and _COLOUR.fullmatch(self.colour)):
            raise InputError(f"an object's colour must have the form #ff8800, found {self.colour!r}")


def new_object(object_id: int) -> ObjectInfo:
    """Return an object with a name and a colour of its own."""
    return ObjectInfo(object_id, f"object {object_id}", _BRIGHT[(object_id - 1) % len(_BRIGHT)])


class Project:
    """The masks, objects and history of one clip. Every method may be called from any thread.

    Args:
        folder: made if need be.
        info: properties of the clip.

    Raises:
        InputError: the folder belongs to another clip, or its project.json is damaged.
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, info: ClipInfo) -> None:
        self.folder, self.info = folder, info
        self.lock = threading.RLock()
        self.objects: dict[int, ObjectInfo] = {1: new_object(1)}
        self._fresh: OrderedDict[int, Mask] = OrderedDict()  # masks that a run has made and may not have written yet
        # frame -> its file's time, and what it says
        self._confidence: dict[int, tuple[int, dict[int, float] | None]] = {}
        for part in ("given", "masks", "history", "cache"):
            make_folder(folder / part)
        self.history = History(folder / "history")
        state = self._read_state()
        if state:
            self.objects = {item["id"]: ObjectInfo(**item) for item in state["objects"]}
            self.history.position = min(state["position"], self.history.length)
        self.given = {int(path.stem) for path in (folder / "given").glob("*.png") if path.stem.isdecimal()}
        self.save()

    def _read_state(self) -> dict[str, Any] | None:
        path = self.folder / "project.json"
        if not path.exists():
            return None
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            size = state["clip"]["width"], state["clip"]["height"]
            known = state["format"] == FORMAT and {"objects", "position"} <= state.keys()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is damaged: {error}", "delete this file; the masks in the same folder are kept"
            ) from error
        if not known:
            raise InputError(
                f"{path} was written by another version of mgseg",
                "use that version, or choose another folder with --project",
            )
        if size != (self.info.width, self.info.height):
            found = f"frames of {size[0]}x{size[1]}, the clip has {self.info.width}x{self.info.height}"
            raise InputError(
                f"{self.folder} belongs to another clip: its project has {found}",
                "choose another folder with --project",
            )
        return dict(state)

    def save(self) -> None:
        """Write project.json, whole or not at all."""
        with self.lock:
            state = {
                "format": FORMAT,
                "clip": {"name": self.info.path.name, "width": self.info.width, "height": self.info.height},
                "objects": [asdict(item) for item in self.objects.values()],
                "position": self.history.position,
            }
            write_whole(self.folder / "project.json", json.dumps(state))

    # masks

    def mask(self, frame: int) -> Mask:
        """Return the current mask of a frame, uint8 (H, W): given, else predicted, else background."""
        with self.lock:
            mask = self._stored(frame)
            gone = [item.id for item in self.objects.values() if item.deleted]
        return np.where(np.isin(mask, gone), np.uint8(0), mask) if gone else mask

    def version(self, frame: int) -> str:
        """Return a checksum of a frame's mask, which changes whenever the mask changes."""
        return checksum(self.mask(frame))

    def edit(self, frame: int, mask: Mask, expected: str | None = None) -> str:
        """Store `mask` as the given mask of a frame, as one step of the history.

        Args:
            frame: its number.
            mask: uint8 (H, W) of object ids, 0 background: the whole frame.
            expected: version of the mask that was edited.

        Returns:
            The new version.

        Raises:
            ConflictError: the mask is no longer that version.
            InputError: the mask has another shape, or ids without an object.
        """
        if mask.dtype != np.uint8 or mask.shape != (self.info.height, self.info.width):
            expected_shape = f"uint8 ({self.info.height}, {self.info.width})"
            raise InputError(f"a mask of this clip is {expected_shape}, found {mask.dtype} {mask.shape}")
        with self.lock:
            if expected is not None and expected != self.version(frame):
                raise ConflictError(
                    f"frame {frame} was changed in another window or by a run",
                    "the page now shows the newest mask; repeat your change",
                )
            ids = set(np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist()) - {0}
            if ids - self.objects.keys():
                raise InputError(f"there is no object {min(ids - self.objects.keys())}", "add the object first")
            change = Change.between(frame, self._stored(frame), mask, frame in self.given, True)
            self.history.add(change)
            self._write_given(frame, mask)
            self.save()
            return self.version(frame)

    def forget(self, frame: int) -> None:
        """Remove the given mask of a frame; the prediction is used again."""
        with self.lock:
            if frame not in self.given:
                return
            before = self._stored(frame)
            self._drop_given(frame)
            self.history.add(Change.between(frame, before, self._stored(frame), True, False))
            self.save()

    def take(self, frame: int, mask: Mask) -> None:
        """Register a mask that a run has made and is about to write into the folder `masks`."""
        with self.lock:
            self._fresh[frame] = mask
            self._fresh.move_to_end(frame)
            while len(self._fresh) > _UNWRITTEN:
                self._fresh.popitem(last=False)

    def settle(self) -> None:
        """Finish a run, all of whose masks are written."""
        with self.lock:
            self._fresh.clear()

    @property
    def predicted(self) -> set[int]:
        """Frames with a mask that the network made."""
        with self.lock:
            return set(self._fresh) | {int(p.stem) for p in (self.folder / "masks").glob("*.png") if p.stem.isdecimal()}

    def confidence(self) -> dict[int, dict[int, float]]:
        """Return predicted J in [0, 1] by frame and object id, where the mask files contain it."""
        with self.lock:
            for path in (self.folder / "masks").glob("*.png"):
                if not path.stem.isdecimal():
                    continue
                frame, time = int(path.stem), path.stat().st_mtime_ns
                if self._confidence.get(frame, (0, None))[0] != time:
                    self._confidence[frame] = time, read_confidence(path)
            return {frame: values for frame, (_, values) in sorted(self._confidence.items()) if values}

    def doubtful(self) -> list[DoubtfulStretch]:
        """Return the ranges of frames where the network is unsure, the least confident first."""
        known = {frame: values for frame, values in self.confidence().items() if frame not in self.given}
        alive = [item.id for item in self.objects.values() if not item.deleted]
        found = []
        for object_id in alive:
            frames = [frame for frame, values in known.items() if object_id in values]
            found += find_stretches(object_id, frames, [known[frame][object_id] for frame in frames])
        return sorted(found, key=lambda stretch: stretch.confidence)

    def given_masks(self) -> dict[int, Mask]:
        """Return the current given masks, by frame."""
        with self.lock:
            return {frame: self.mask(frame) for frame in sorted(self.given)}

    @property
    def palette(self) -> bytes:
        """768 bytes: the objects' colours by id."""
        colours = bytearray(DAVIS_PALETTE)
        for item in self.objects.values():
            colours[3 * item.id : 3 * item.id + 3] = bytes.fromhex(item.colour[1:])
        return bytes(colours)

    # objects

    def set_objects(self, objects: Iterable[ObjectInfo]) -> None:
        """Replace the table of objects, as one step of the history; ids that masks use must stay in it."""
        with self.lock:
            table = {item.id: item for item in objects}
            before = dict(self.objects)
            table |= {i: replace(item, deleted=True) for i, item in before.items() if i not in table}
            if table == before:
                return
            records = [[asdict(item) for item in x.values()] for x in (before, table)]
            self.history.add(Change.of_objects(*records))
            self.objects = table
            self.save()

    # undo and redo

    def undo(self) -> int | None:
        """Undo the newest change. Returns its frame, -1 for the table of objects, None if there is no change."""
        return self._restore(self.history.undo, before=True)

    def redo(self) -> int | None:
        """Redo the change that was undone last; returns as `undo` does."""
        return self._restore(self.history.redo, before=False)

    def _restore(self, step: Any, before: bool) -> int | None:
        with self.lock:
            change: Change | None = step()
            if change is None:
                return None
            if change.frame < 0:
                self.objects = {item["id"]: ObjectInfo(**item) for item in change.objects(before)}
            elif change.given(before):
                self._write_given(change.frame, change.apply(self._stored(change.frame), before))
            else:
                self._drop_given(change.frame)
            self.save()
            return change.frame

    def _stored(self, frame: int) -> Mask:
        if frame in self.given:
            return read_index_map(self._path("given", frame), as_stored=True)
        if frame in self._fresh:
            return self._fresh[frame]
        path = self._path("masks", frame)
        if path.exists():
            return read_index_map(path, as_stored=True)
        return np.zeros((self.info.height, self.info.width), np.uint8)

    def _path(self, part: str, frame: int) -> Path:
        return self.folder / part / f"{frame:05d}.png"

    def _write_given(self, frame: int, mask: Mask) -> None:
        write_mask(self._path("given", frame), mask, self.palette)
        self.given.add(frame)

    def _drop_given(self, frame: int) -> None:
        self._path("given", frame).unlink(missing_ok=True)
        self.given.discard(frame)


def checksum(mask: Mask) -> str:
    """Return the version of a mask; see `Project.version`."""
    return f"{zlib.crc32(mask.tobytes()):08x}"
