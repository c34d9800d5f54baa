"""Cut-outs: a folder of PNGs with the objects on a transparent background."""

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from mgseg.files.matte import Alpha, cut_out
from mgseg.files.pictures import write_png
from mgseg.outputs.writer import OutputWriter, Segmented, Target


@dataclass(frozen=True)
class CutOuts:
    """How objects are cut out, and where they are written.

    Args:
        path: the folder.
        alpha: how the soft alpha channel is made.
        hard: cut along the mask instead.
    """

    path: str | Path
    alpha: Alpha = field(default_factory=Alpha)
    hard: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))


class CutOutWriter(OutputWriter):
    """Writes `FOLDER/FRAME.png`, RGBA with straight colours, black where nothing is seen."""

    def __init__(self, wanted: CutOuts | Path, target: Target) -> None:
        self.cut_outs = wanted if isinstance(wanted, CutOuts) else CutOuts(wanted)
        super().__init__(Path(self.cut_outs.path), target)
        self.needs_scores = not self.cut_outs.hard

    def check(self, *, may_replace: bool) -> None:
        """Also raise an InputError for objects that no mask contains."""
        self.cut_outs.alpha.check(self.target.object_ids)
        super().check(may_replace=may_replace)

    @property
    def settings(self) -> str:
        """Soft cut-outs of found frames are not made again, so they must be of the same kind."""
        return str(self.cut_outs.alpha) if self.needs_scores else ""

    def write(self, item: Segmented) -> None:
        """Write a frame's objects."""
        if item.mask is None or (self.needs_scores and item.is_found):
            return
        draw = self.cut_outs.alpha
        alpha = (
            draw.draw(item.frame.image, item.scores or {}, self.target.scale)
            if self.needs_scores
            else draw.draw_hard(item.mask)
        )
        write_png(self._file_for(item.frame), Image.fromarray(cut_out(item.frame.image, alpha)))
