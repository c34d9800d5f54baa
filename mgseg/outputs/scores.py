"""Scores: a folder for each object, of grey PNGs that hold the object's probability."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.files.masks import read_index_map
from mgseg.files.pictures import write_png
from mgseg.files.video import Frame
from mgseg.outputs.writer import OutputWriter, Segmented


class ScoreWriter(OutputWriter):
    """Writes `FOLDER/OBJECT/FRAME.png`, 8-bit grey, probability times 255."""

    needs_scores = True
    settings = "8-bit PNG"

    def write(self, item: Segmented) -> None:
        """Write the scores of a frame; those of a found frame are there."""
        if item.scores is None or item.is_found:
            return
        for object_id, score in item.scores.items():
            picture = Image.fromarray((score * 255 + 0.5).astype(np.uint8))
            write_png(self._file_for(item.frame, str(object_id)), picture)

    def read(self, frame: Frame) -> dict[int, NDArray[np.float32]]:
        """The scores of a frame that were written before, float32 (H, W) in [0, 1] of each object id."""
        folders = [folder for folder in self.path.glob("*") if folder.name.isdecimal()]
        paths = {int(folder.name): folder / f"{frame.name}.png" for folder in folders}
        return {
            object_id: (read_index_map(path, as_stored=True) / 255).astype(np.float32)
            for object_id, path in sorted(paths.items())
            if path.exists()
        }
