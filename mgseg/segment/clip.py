"""`segment_clip`: segments a whole clip. It checks everything, then `run.Run` does the work. Nothing is printed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mgseg.errors import InputError, MgsegError, OutputError
from mgseg.files.masks import DAVIS_PALETTE
from mgseg.files.names import in_words, reads_once, same_form
from mgseg.files.video import ClipInfo, open_clip
from mgseg.network import Network
from mgseg.outputs.results import Results
from mgseg.outputs.table import Outputs
from mgseg.outputs.timeline import Timeline
from mgseg.outputs.writer import Target
from mgseg.segment.adaptation import OnStep
from mgseg.segment.given_masks import GivenMasks, MaskReading
from mgseg.segment.mask_sources import MaskSources
from mgseg.segment.resume import Settings, check_settings
from mgseg.segment.run import OnMask, Progress, Run
from mgseg.segment.run import Span as Span  # public here
from mgseg.segment.scaling import network_size
from mgseg.segment.segmenter import Segmenter, SegmenterOptions
from mgseg.segment.stretches import plan_stretches


@dataclass(frozen=True)
class SegmentResult:
    """Result of `segment_clip`.

    Args:
        clip: as given.
        outputs: the paths that were written.
        num_frames: frames with a mask.
        num_found: how many of these an earlier run had finished.
        object_ids: ids of the objects followed to the end.
        seconds: from the first frame read to the last file written, without loading weights and adapting.
        timeline: confidence by object and frame, scene cuts, and the frames to check.
        redone: first and last frame of each range of frames that was segmented on resume.
        problem: why the result is only partial; None if it is complete.
        warnings: sentences about the clip or the results for the user.
    """

    clip: Path
    outputs: Outputs
    num_frames: int
    num_found: int
    object_ids: tuple[int, ...]
    seconds: float
    timeline: Timeline
    redone: tuple[tuple[int, int], ...]
    problem: MgsegError | None = None
    warnings: tuple[str, ...] = ()

    @property
    def frames_per_second(self) -> float:
        """Speed over the frames that were segmented, without those found on resume; 0 if there were none."""
        return (self.num_frames - self.num_found) / self.seconds

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {
            "clip": str(self.clip),
            **{name: path and str(path) for name, path in self.outputs.paths.items()},
            "num_frames": self.num_frames,
            "num_found": self.num_found,
            "object_ids": list(self.object_ids),
            "seconds": round(self.seconds, 3),
            "frames_per_second": round(self.frames_per_second, 3),
            "redone": [list(part) for part in self.redone],
            **self.timeline.to_json(),
            "problem": None if self.problem is None else str(self.problem),
            "warnings": list(self.warnings),
        }


def segment_clip(
    clip: str | Path,
    masks: MaskSources | Mapping[int | None, MaskSources],
    outputs: Outputs | None = None,
    network: Network | None = None,
    *,
    span: Span | None = None,
    options: SegmenterOptions | None = None,
    reading: MaskReading | None = None,
    zero_is_background: bool = False,
    on_mask: OnMask | None = None,
    progress: Progress | None = None,
    on_adapt: OnStep | None = None,
) -> SegmentResult:
    """Follow the objects of the given masks through a clip.

    Args:
        clip: a video file, a folder of pictures, a named pipe, or "-" for the standard input. A pipe is read once.
        masks: for the first frame, by frame number, or a folder; see `GivenMasks`. Later ones add objects or
            correct known ones.
        outputs: what to write.
        network: the network; by default `Network()`. Its weights are loaded after all other checks.
        span: the frames to segment. Frames before the first mask get no mask, unless `span.both_ways`.
        options: options of the segmenter.
        reading: how mask files are read.
        zero_is_background: treat 0 in later masks as background; otherwise the prediction is kept there.
        on_mask: called with each frame number and its mask, uint8 (H, W).
        progress: called with the number of frames done and of all (None if unknown).
        on_adapt: called with the number of steps of adaptation done and of all (`options.adapt`).

    Returns:
        The result. If the clip ends too early, its `problem` gives the reason.
    """
    clip, outputs, span = Path(clip), outputs or Outputs(), span or Span()
    network, options = network or Network(), options or SegmenterOptions()
    if span.both_ways and reads_once(clip):
        once = f"{in_words(clip)} can be read only once, but --both-ways reads a clip more than once"
        raise InputError(once, "save it to a file first")
    with open_clip(clip) as source:
        info = source.info
        given = GivenMasks(
            masks,
            info,
            span.start,
            span.end,
            **asdict(reading or MaskReading()),
            zero_is_background=zero_is_background,
            names=outputs.object_names,
        )
        cut_to = _folder_of_cuts(outputs) if given.cut_out else None
        warnings = [f"{clip} is HDR: its frames are tone-mapped to BT.709, also in results"] if info.is_hdr else []
        if info.reads_once and len(plan_stretches(given, split=True)) > 1:
            warnings.append(f"later masks improve no earlier frames, because {in_words(clip)} can be read only once")
        target = Target(
            info,
            given.palette or DAVIS_PALETTE,
            num_frames=span.count(info, None),
            object_ids=given.object_ids,
            names=given.names,
            scale=info.height / network_size((info.height, info.width), options.size)[0],
            warn=warnings.append,
            given=tuple(given.arguments),
        )
        results = Results(outputs, target)
        results.check(clip, *given.paths, *(path.parent for path in given.paths))
        settings = _settings(info, given, results, span, network, options)
        found_in = outputs.paths["masks"] if outputs.resume else None
        if found_in:
            check_settings(
                found_in, settings, [stretch.settings for stretch in plan_stretches(given, split=not reads_once(clip))]
            )
        segmenter = Segmenter(network, options, on_adapt=on_adapt)
        run = Run(source, given, results, span, segmenter, settings, found_in, on_mask, progress, warnings, cut_to)
        problem = run.run()
        redone = tuple((first, last) for first, last in run.redone)
        return SegmentResult(
            clip=clip,
            outputs=outputs,
            num_frames=run.done,
            num_found=run.done - sum(last - first + 1 for first, last in redone),
            object_ids=segmenter.object_ids or given.object_ids,
            seconds=run.seconds,
            timeline=run.timeline,
            redone=redone,
            problem=problem,
            warnings=tuple(warnings),
        )


def _folder_of_cuts(outputs: Outputs) -> Path | None:
    """The folder for masks that are cut out of frames, beside the first of the results; None if nothing is written.

    Raises:
        OutputError: it holds something, and nothing is to be overwritten.
    """
    first = next(filter(None, outputs.paths.values()), None)
    if first is None:
        return None
    folder = first.with_name(f"{first.stem}_given")
    if folder.exists() and not (outputs.overwrite or outputs.resume):
        raise OutputError(f"{folder} already exists", "replace it with --overwrite, or move it")
    return folder


def _settings(
    info: ClipInfo, given: GivenMasks, results: Results, span: Span, network: Network, options: SegmenterOptions
) -> Settings:
    """All that decides what stands in the masks, but for the given masks, and which pictures stand beside them."""
    return {
        "clip": f"{same_form(info.path.name)}, {info.width}x{info.height}",
        "start": str(span.start),
        "weights": network.sha256[:16],
        "precision": network.precision,
        **results.settings,
        **options.settings,
    }
