"""Masks: a folder of indexed PNGs, each with a note on how it was made."""

from mgseg.files.masks import write_mask
from mgseg.outputs.writer import OutputWriter, Segmented


class MaskWriter(OutputWriter):
    """Writes `FOLDER/FRAME.png`. A mask is a frame's last picture: where it is, the others are, too."""

    def write(self, item: Segmented) -> None:
        """Write a mask that was not found there."""
        if item.mask is not None and not item.is_found:
            write_mask(self._file_for(item.frame), item.mask, self.target.palette, item.note, item.confidence)
