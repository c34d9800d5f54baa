"""Overlay: the clip with coloured objects, as a video or an animated picture."""

from pathlib import Path

from mgseg.files.overlay import draw_overlay
from mgseg.outputs.clip_video import ClipVideo
from mgseg.outputs.writer import OutputWriter, Segmented, Target


class OverlayWriter(OutputWriter):
    """Writes a video (.mp4, .mkv, .webm) or animation (.gif, .webp); frames without a mask stay as they are."""

    is_folder = False
    in_order = True

    def __init__(self, wanted: Path, target: Target) -> None:
        super().__init__(wanted, target)
        self._video = self._exits.enter_context(ClipVideo(wanted, target))

    def check(self, *, may_replace: bool) -> None:
        """Also raise an OutputError for an unknown kind of file or too large an animation."""
        self._video.check()
        super().check(may_replace=may_replace)

    def write(self, item: Segmented) -> None:
        """Add a frame with its objects coloured."""
        image = item.frame.image
        if item.mask is not None:
            image = draw_overlay(image, item.mask, self.target.palette)
        self._video.write(image, item.frame.time)
