"""Black and white masks for editors and inpainting tools, in one folder for each object."""

import numpy as np
from PIL import Image

from mgseg.files.pictures import write_png
from mgseg.outputs.writer import OutputWriter, Segmented


class EachObjectWriter(OutputWriter):
    """Writes `FOLDER/OBJECT/FRAME.png`, 8-bit grey: 255 within the object, 0 elsewhere."""

    def write(self, item: Segmented) -> None:
        """Write a mask for each object, also for objects that are not in the frame."""
        for object_id in self.target.object_ids if item.mask is not None else ():
            inside = (item.mask == object_id) * np.uint8(255)
            write_png(self._file_for(item.frame, str(object_id)), Image.fromarray(inside))
