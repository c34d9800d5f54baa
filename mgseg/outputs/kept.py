"""Frames segmented backward, kept on disk until the videos, which are written forward, reach them."""

import json
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import numpy as np

from mgseg.files.video import Frame
from mgseg.files.whole_file import whole_file
from mgseg.outputs.writer import Segmented

_STEPS = 65535  # scores are kept in 16 bits


class KeptFrames:
    """Masks and scores by frame number, in a temporary folder that is deleted when the context ends."""

    def __init__(self) -> None:
        self._exits = ExitStack()
        self._folder: Path | None = None

    def put(self, item: Segmented) -> None:
        """Keep a frame's mask and scores, but not its picture."""
        if self._folder is None:
            self._folder = Path(self._exits.enter_context(TemporaryDirectory(prefix="mgseg-")))
        about = json.dumps({"confidence": item.confidence, "cut": item.cut})
        arrays: dict[str, Any] = {"mask": item.mask, "about": about}
        for object_id, score in (item.scores or {}).items():
            arrays[str(object_id)] = (score * _STEPS + 0.5).astype(np.uint16)
        with whole_file(self._folder / f"{item.frame.index}.npz") as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)

    def take(self, frame: Frame) -> Segmented:
        """Return a frame with its kept mask and scores, and delete them; without a mask if there are none."""
        path = self._folder / f"{frame.index}.npz" if self._folder else None
        if path is None or not path.exists():
            return Segmented(frame, None)
        with np.load(path) as arrays:
            scores = {int(i): (arrays[i] / _STEPS).astype(np.float32) for i in arrays.files if i.isdecimal()}
            about = json.loads(str(arrays["about"]))
            confidence = about["confidence"] and {int(i): value for i, value in about["confidence"].items()}
            item = Segmented(frame, arrays["mask"], scores or None, confidence=confidence, cut=about["cut"])
        path.unlink()
        return item

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.__exit__(kind, error, trace)
