"""Scores: grey PNGs of each object's probability, in one folder for each object."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.errors import OutputError
from mgseg.files.masks import object_ids, read_index_map
from mgseg.files.pictures import write_png
from mgseg.files.video import Frame
from mgseg.outputs.writer import OutputWriter, Segmented


class ScoreWriter(OutputWriter):
    """Writes `FOLDER/OBJECT/FRAME.png`, 8-bit grey, probability times 255."""

    needs_scores = True

    @property
    def settings(self) -> str:
        """Scores of found frames are not made again, so they must be there."""
        return "8-bit PNG"

    def write(self, item: Segmented) -> None:
        """Write the scores of a frame, unless the run found its mask, whose scores exist."""
        if item.scores is None or item.is_found:
            return
        for object_id, score in item.scores.items():
            picture = Image.fromarray((score * 255 + 0.5).astype(np.uint8))
            write_png(self._file_for(item.frame, str(object_id)), picture)

    def read(self, frame: Frame, mask: NDArray[np.uint8]) -> dict[int, NDArray[np.float32]]:
        """The scores of a frame that were written before, float32 (H, W) in [0, 1] of each object id.

        Raises:
            OutputError: the scores of an object in the mask are missing.
        """
        folders = [folder for folder in self.path.glob("*") if folder.name.isdecimal()]
        paths = {int(folder.name): folder / f"{frame.name}.png" for folder in folders}
        there = {object_id: path for object_id, path in sorted(paths.items()) if path.exists()}
        if missing := set(object_ids(mask)) - set(there):
            message = f"{self.path} lacks the scores of object {min(missing)} in frame {frame.name}, which has a mask"
            raise OutputError(message, "begin again with --overwrite instead of --resume")
        planes = {object_id: read_index_map(path, as_stored=True) for object_id, path in there.items()}
        return {object_id: (plane / 255).astype(np.float32) for object_id, plane in planes.items()}
