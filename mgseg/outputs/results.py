"""All outputs of one run: checks them before the run, passes each frame to them in order, and ends them."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import OutputError
from mgseg.files.video import Frame
from mgseg.outputs.kept import KeptFrames
from mgseg.outputs.masks import MaskWriter
from mgseg.outputs.scores import ScoreWriter
from mgseg.outputs.table import Outputs
from mgseg.outputs.writer import Segmented, Target


class Results:
    """Writes the frames of one clip to all outputs. A context manager; on an error no unfinished file is left.

    Args:
        outputs: what to write.
        target: the clip.
    """

    def __init__(self, outputs: Outputs, target: Target) -> None:
        self.outputs = outputs
        self._writers = outputs.writers(target)
        # Masks come last: where a mask is, all of its frame's pictures are.
        writers = sorted(self._writers.values(), key=lambda writer: isinstance(writer, MaskWriter))
        self._in_order = [writer for writer in writers if writer.in_order]
        self._in_any_order = [writer for writer in writers if not writer.in_order]
        self._kept = KeptFrames()
        self._exits = ExitStack()

    def check(self, *inputs: Path) -> None:
        """Raise an OutputError for what would overwrite results or inputs, or cannot be written; writes nothing.

        Args:
            inputs: files and folders that are read, and must not be written to.

        Raises:
            OutputError: an output cannot be written.
        """
        if self.outputs.resume:
            self._check_resume()
        taken = {path.resolve(): "an input of this command" for path in inputs}
        for writer in self._writers.values():
            resolved = writer.path.resolve()
            if resolved in taken:
                raise OutputError(f"{writer.path} is {taken[resolved]} and would be overwritten", "choose another path")
            taken[resolved] = "also the path of another result"
            writer.check(may_replace=self.outputs.overwrite or self.outputs.resume)

    def _check_resume(self) -> None:
        if not self.outputs.masks:
            raise OutputError(
                "--resume needs the folder of masks, but --no-masks writes none", "leave out --resume or --no-masks"
            )
        if self.outputs.overwrite:
            raise OutputError("--resume and --overwrite exclude each other", "to begin again, use --overwrite alone")
        soft = [writer for writer in self._in_order if writer.needs_scores]
        if soft and not self.outputs.scores:
            raise OutputError(
                f"{soft[0].path} cannot be resumed: it needs the scores of the finished frames, which were not saved",
                "begin again with --overwrite; to be able to resume, add --scores FOLDER to that run",
            )

    @property
    def is_ordered(self) -> bool:
        """Whether an output needs the clip's frames in order, those before the first mask, too."""
        return bool(self._in_order)

    @property
    def needs_scores(self) -> bool:
        """Whether an output uses the scores."""
        return any(writer.needs_scores for writer in self._writers.values())

    @property
    def settings(self) -> dict[str, str]:
        """Return the settings that must be the same when the run is resumed, by output."""
        return {name: writer.settings for name, writer in self._writers.items() if writer.settings}

    def found(self, frame: Frame, mask: NDArray[np.uint8], note: str) -> Segmented:
        """A frame whose mask an interrupted run made, with the scores that it wrote if a video needs them."""
        scores = self._writers.get("scores")
        if isinstance(scores, ScoreWriter) and any(writer.needs_scores for writer in self._in_order):
            return Segmented(frame, mask, scores.read(frame, mask), note, is_found=True)
        return Segmented(frame, mask, note=note, is_found=True)

    def write(self, item: Segmented) -> None:
        """Write the next frame in the clip's order."""
        for writer in (*self._in_any_order, *self._in_order):
            writer.write(item)

    def write_ahead(self, item: Segmented) -> None:
        """Write the pictures of a frame whose turn has not come; for the videos it is kept until `write_before`."""
        for writer in self._in_any_order:
            writer.write(item)
        if self._in_order:
            self._kept.put(item)

    def write_before(self, frame: Frame) -> None:
        """Add a frame before the first mask to the videos, with what `write_ahead` kept of it."""
        item = self._kept.take(frame)
        for writer in self._in_order:
            writer.write(item)

    def __enter__(self) -> Self:
        self._exits.enter_context(self._kept)
        for writer in self._writers.values():
            self._exits.enter_context(writer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.__exit__(kind, error, trace)
