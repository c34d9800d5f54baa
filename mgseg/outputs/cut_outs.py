"""Cut-outs: a folder of PNGs of the objects on transparent ground."""

from PIL import Image

from mgseg.files.overlay import cut_out
from mgseg.files.pictures import write_png
from mgseg.outputs.writer import OutputWriter, Segmented


class CutOutWriter(OutputWriter):
    """Writes `FOLDER/FRAME.png`, RGBA."""

    def write(self, item: Segmented) -> None:
        """Write a frame's objects."""
        if item.mask is not None:
            write_png(self._file_for(item.frame), Image.fromarray(cut_out(item.frame.image, item.mask)))
