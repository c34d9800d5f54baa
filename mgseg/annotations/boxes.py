"""CSV table of boxes: one row for each object on each frame where it is visible."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mgseg.annotations.frames import AnnotationWriter, Clip
from mgseg.annotations.shapes import box_of
from mgseg.files.whole_file import make_folder, whole_file

COLUMNS = ("frame", "name", "object", "label", "left", "top", "width", "height", "area", "x", "y", "confidence")


class BoxWriter(AnnotationWriter):
    """Writes `FILE.csv`: boxes in pixels from the left upper corner, area in pixels, (x, y) the centre of the area."""

    def __init__(self, path: Path, clip: Clip) -> None:
        super().__init__(path, clip)
        part = self._exits.enter_context(whole_file(make_folder(path.parent) / path.name))
        # With a mark of its encoding, which a spreadsheet needs.
        self._file = self._exits.enter_context(part.open("w", encoding="utf-8-sig", newline=""))
        self._table = csv.writer(self._file)
        self._table.writerow(COLUMNS)

    def add(
        self, index: int, name: str, mask: NDArray[np.uint8], confidence: Mapping[int, float] | None = None
    ) -> None:
        """Add the rows of a frame."""
        for object_id, pixels in self.objects(mask):
            rows, columns = np.nonzero(pixels)
            centre = f"{columns.mean() + 0.5:.2f}", f"{rows.mean() + 0.5:.2f}"
            sure = (confidence or {}).get(object_id)
            first = index, name, object_id, self.clip.label(object_id)
            last = "" if sure is None else f"{sure:.4f}"
            self._table.writerow([*first, *(box_of(pixels) or ()), len(rows), *centre, last])

    def finish(self) -> None:
        """Do nothing: all rows are already written."""
