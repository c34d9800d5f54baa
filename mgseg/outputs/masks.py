"""Masks: a folder of indexed PNGs, each with a note of the settings of the run."""

from mgseg.files.masks import write_mask
from mgseg.outputs.writer import OutputWriter, Segmented


class MaskWriter(OutputWriter):
    """Writes `FOLDER/FRAME.png`. A mask is a frame's last picture: where it is, the others are, too."""

    def write(self, item: Segmented) -> None:
        """Write a mask, unless the run found it in the folder."""
        if item.mask is not None and not item.is_found:
            write_mask(self._file_for(item.frame), item.mask, self.target.palette, item.note, item.confidence)
