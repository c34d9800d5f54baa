"""Segment a whole clip: read, Segmenter, write, overlapped by threads. Nothing is printed; progress by callback."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import DeviceError, InputError, MgsegError, OutputError
from mgseg.files.masks import DAVIS_PALETTE, write_mask
from mgseg.files.names import in_words, reads_once, same_form
from mgseg.files.threads import WriteBehind, read_ahead
from mgseg.files.video import Clip, ClipInfo, Frame, open_clip
from mgseg.files.whole_file import make_folder
from mgseg.network import Network
from mgseg.outputs.results import Results
from mgseg.outputs.table import Outputs
from mgseg.outputs.writer import Segmented, Target
from mgseg.segment.given_masks import GivenMasks
from mgseg.segment.mask_sources import MaskSources
from mgseg.segment.resume import Found, Settings, check_settings, to_note
from mgseg.segment.scaling import network_size
from mgseg.segment.segmenter import Segmenter, SegmenterOptions

Mask = NDArray[np.uint8]
OnMask = Callable[[int, Mask], None]
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class SegmentResult:
    """What `segment_clip` did.

    Args:
        clip: as given.
        outputs: what was written where.
        num_frames: frames with a mask.
        num_found: how many of these were there already when resuming.
        object_ids: of the objects followed to the end.
        seconds: from the first frame read to the last file written, without loading weights.
        problem: why this is only a part; None if it is whole.
        warnings: what the user should know about the clip or the results, a sentence each.
    """

    clip: Path
    outputs: Outputs
    num_frames: int
    num_found: int
    object_ids: tuple[int, ...]
    seconds: float
    problem: MgsegError | None = None
    warnings: tuple[str, ...] = ()

    @property
    def frames_per_second(self) -> float:
        """How fast the frames were segmented that were not found; 0 if all were."""
        return (self.num_frames - self.num_found) / self.seconds

    def to_json(self) -> dict[str, Any]:
        """The result as plain values."""
        return {
            "clip": str(self.clip),
            **{name: place and str(place) for name, place in self.outputs.places.items()},
            "num_frames": self.num_frames,
            "num_found": self.num_found,
            "object_ids": list(self.object_ids),
            "seconds": round(self.seconds, 3),
            "frames_per_second": round(self.frames_per_second, 3),
            "problem": None if self.problem is None else str(self.problem),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Span:
    """Which part of a clip, and which way.

    Args:
        start: first frame, as a frame number (int) or in seconds (Fraction).
        end: first frame that is left out, likewise; None for the clip's end.
        both_ways: go backward from the first mask too, down to `start`.
    """

    start: int | Fraction = 0
    end: int | Fraction | None = None
    both_ways: bool = False


def segment_clip(
    clip: str | Path,
    masks: MaskSources | Mapping[int | None, MaskSources],
    outputs: Outputs | None = None,
    network: Network | None = None,
    *,
    span: Span | None = None,
    options: SegmenterOptions | None = None,
    clean_masks: bool = False,
    resize_masks: bool = False,
    zero_is_background: bool = False,
    mask_from: int | None = None,
    on_mask: OnMask | None = None,
    progress: Progress | None = None,
) -> SegmentResult:
    """Follow the objects of the given masks through a clip.

    Args:
        clip: a video file, a folder of pictures, a named pipe, or "-" for the standard input. A pipe is read once.
        masks: for the first frame, by frame number, or a folder; see `GivenMasks`. Later ones add objects or
            correct known ones.
        outputs: what to write.
        network: what segments; by default `Network()`. Its weights are loaded when all else is checked.
        span: which frames. Those before the first mask stay without, unless `span.both_ways`.
        options: of the segmenter.
        clean_masks: repair masks with smooth edges or specks, which are refused otherwise.
        resize_masks: scale masks of another size to the clip's, which are refused otherwise.
        zero_is_background: 0 in a later mask says background; otherwise it says nothing, and what was predicted stays.
        mask_from: take only this frame of a mask that is a video; otherwise each of its frames is the mask of a frame.
        on_mask: called with each frame number and its mask, uint8 (H, W).
        progress: called with the number of frames done and of all (None if unknown).

    Returns:
        What was done. If the clip breaks off after some frames, the result's `problem` says so.
    """
    clip, outputs, span = Path(clip), outputs or Outputs(), span or Span()
    network, options = network or Network(), options or SegmenterOptions()
    if span.both_ways and reads_once(clip):
        once = f"{in_words(clip)} can be read only once, and going both ways reads a clip again"
        raise InputError(once, "save it to a file first")
    with open_clip(clip) as source:
        info = source.info
        given = GivenMasks(
            masks,
            info,
            span.start,
            span.end,
            clean=clean_masks,
            resize=resize_masks,
            zero_is_background=zero_is_background,
            names=outputs.object_names,
            mask_from=mask_from,
        )
        cut_to = _folder_of_cuts(outputs) if given.cut_out else None
        warnings = [f"{clip} is HDR: its frames are tone-mapped to BT.709, also in results"] if info.is_hdr else []
        target = Target(
            info,
            given.palette or DAVIS_PALETTE,
            num_frames=_count(info, span, None),
            object_ids=given.object_ids,
            names=given.names,
            scale=info.height / network_size((info.height, info.width), options.size)[0],
            warn=warnings.append,
        )
        results = Results(outputs, target)
        results.check(clip, *given.paths, *(path.parent for path in given.paths))
        settings = _settings(info, given, results, span, network, options)
        found_in = outputs.places["masks"] if outputs.resume else None
        if found_in:
            check_settings(found_in, settings)
        segmenter = Segmenter(network, options)
        run = _Run(source, given, results, span, segmenter, settings, found_in, on_mask, progress, warnings, cut_to)
        return run.run()


def _folder_of_cuts(outputs: Outputs) -> Path | None:
    """The folder for masks that are cut out of frames, beside the first of the results; None if nothing is written.

    Raises:
        OutputError: it holds something, and nothing is to be overwritten.
    """
    place = next(filter(None, outputs.places.values()), None)
    if place is None:
        return None
    folder = place.with_name(f"{place.stem}_given")
    if folder.exists() and not (outputs.overwrite or outputs.resume):
        raise OutputError(f"{folder} is there already", "--overwrite replaces it, or move it")
    return folder


def _settings(
    info: ClipInfo, given: GivenMasks, results: Results, span: Span, network: Network, options: SegmenterOptions
) -> Settings:
    """All that decides what stands in the masks, and which pictures stand beside them."""
    return {
        "clip": f"{same_form(info.path.name)}, {info.width}x{info.height}",
        "given masks": given.checksum,
        "zero is background": given.zero_is_background,
        "start": str(span.start),
        "weights": network.sha256[:16],
        "precision": network.precision,
        **results.settings,
        **{name: value for name, value in asdict(options).items() if name != "objects_at_once"},
    }


@dataclass
class _Run:
    """One clip on its way through the threads."""

    clip: Clip
    given: GivenMasks
    results: Results
    span: Span
    segmenter: Segmenter
    settings: Settings
    found_in: Path | None
    on_mask: OnMask | None
    progress: Progress | None
    warnings: list[str]
    cut_to: Path | None
    done: int = 0
    num_found: int = 0
    other_sizes: set[tuple[int, int]] = field(default_factory=set)

    def run(self) -> SegmentResult:
        begin = time.perf_counter()
        problem: MgsegError | None = None
        interrupt: KeyboardInterrupt | None = None
        with self.results:
            try:
                if self.span.both_ways:  # first, so that on the way forward videos are written in order
                    self._backward()
                self._forward()
                problem = self._left_over()
            except (InputError, DeviceError) as error:
                problem = error
            except KeyboardInterrupt as error:  # what is finished stays, the overlay too
                interrupt = error
            if problem and not self.done:
                raise problem
        if interrupt:
            raise interrupt
        seconds = time.perf_counter() - begin
        return SegmentResult(
            clip=self.info.path,
            outputs=self.results.outputs,
            num_frames=self.done,
            num_found=self.num_found,
            object_ids=self.segmenter.object_ids,
            seconds=seconds,
            problem=problem,
            warnings=tuple(self.warnings),
        )

    @property
    def info(self) -> ClipInfo:
        return self.clip.info

    def _backward(self) -> None:
        first = self.given.first
        if first is None:
            return
        frame = next(self.clip.frames(first, self.span.end), None)
        if frame is None or (isinstance(self.span.start, Fraction) and frame.time < self.span.start):
            raise self._without_frame([first])
        mask = self._take(frame, is_first=False)
        assert mask is not None
        self.segmenter.start(frame.image, mask)
        found = self._found()
        with (
            WriteBehind() as sink,
            closing(read_ahead(map(self.results.outputs.named, self.clip.backward(self.span.start, first)))) as frames,
        ):
            for frame in frames:
                sink.put(self.results.write_ahead, self._follow(frame, None, found))

    def _forward(self) -> None:
        first = self.given.first
        begin = self.span.start
        if first is not None and isinstance(begin, int) and not self.results.is_ordered:
            begin = first
        found = self._found()
        started = False
        with (
            WriteBehind() as sink,
            closing(read_ahead(map(self.results.outputs.named, self.clip.frames(begin, self.span.end)))) as frames,
        ):
            for number, frame in enumerate(frames):
                self._tell_size(frame)
                given = self._take(frame, is_first=number == 0)
                if given is None and not started:
                    sink.put(self.results.write_before, frame)
                    continue
                sink.put(self.results.write, self._follow(frame, given, found, is_first=not started))
                started = True

    def _take(self, frame: Frame, is_first: bool) -> Mask | None:
        """The mask given for a frame; one that was cut out of it is written, to be looked at and painted over."""
        mask = self.given.take(frame.index, frame.image, is_first)
        if mask is not None and self.cut_to and (frame.index in self.given.cut_out or is_first):
            path = self.cut_to / f"{frame.index:05d}.png"
            write_mask(make_folder(path.parent) / path.name, mask, self.given.palette)
            self.warnings.append(f"the mask of frame {frame.index} was cut out by GrabCut; look at it: {path}")
        return mask

    def _tell_size(self, frame: Frame) -> None:
        """Warn of a size that is not the clip's, once, with the first frame that has it."""
        if frame.own_size and frame.own_size not in self.other_sizes:
            self.other_sizes.add(frame.own_size)
            height, width = frame.own_size
            wanted = f"they are scaled to {self.info.width}x{self.info.height}, the size of the first"
            self.warnings.append(f"from frame {frame.index} on, frames are {width}x{height}: {wanted}")

    def _found(self) -> Found:
        return Found(self.found_in, self.settings)

    def _follow(self, frame: Frame, given: Mask | None, found: Found, is_first: bool = False) -> Segmented:
        """Segment a frame, or take up the mask that an interrupted run left."""
        known = found.take(frame.name)
        if given is not None and is_first:
            mask = self.segmenter.start(frame.image, given)
        elif known is not None:
            mask = self.segmenter.recall(frame.image, known, given)
        else:
            mask = self.segmenter.step(frame.image, given, zero_is_background=self.given.zero_is_background)
        note = to_note(self.settings)
        if known is not None:
            item = self.results.found(frame, mask, note)
        else:
            item = Segmented(frame, mask, self.segmenter.scores if self.results.needs_scores else None, note)
        self.done += 1
        self.num_found += known is not None
        if self.on_mask:
            self.on_mask(frame.index, mask)
        if self.progress:
            self.progress(self.done, _count(self.info, self.span, self.given.first))
        return item

    def _left_over(self) -> InputError | None:
        """Masks for frames that never came, found out late when a clip does not tell its length."""
        if not self.done and self.given.first in (None, self.span.start):
            return InputError(f"{self.info.path} has no frame between --start and --end")
        return self._without_frame(self.given.unused) if self.given.unused else None

    def _without_frame(self, unused: list[int]) -> InputError:
        frames = ", ".join(map(str, unused))
        if isinstance(self.span.start, Fraction) or isinstance(self.span.end, Fraction):
            outside = f"outside of --start and --end, or behind the end of {self.info.path}"
            return InputError(f"the mask(s) for frame {frames} lie {outside}")
        return InputError(f"{self.info.path} ended before the mask(s) for frame {frames}")


def _count(info: ClipInfo, span: Span, first: int | None) -> int | None:
    """How many frames will have a mask, as far as can be told."""
    if info.num_frames is None:
        return None
    start, end = (x if isinstance(x, int | None) else ceil(x * info.rate) for x in (span.start, span.end))
    end = info.num_frames if end is None else min(end, info.num_frames)
    begin = start if span.both_ways or first is None else first
    return max(0, end - (begin or 0))
