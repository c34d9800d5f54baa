"""Segmentation of a split into a folder of masks: can be resumed, and split over several processes."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mgseg.data.catalog import Split, VideoSequence
from mgseg.distributed import Processes
from mgseg.errors import DatasetError, OutputError
from mgseg.evaluation.provenance import code_version, read_run, write_run
from mgseg.evaluation.scoring import ids_of
from mgseg.files.masks import VOID, read_index_map, write_mask
from mgseg.files.threads import WriteBehind, read_ahead
from mgseg.files.video import Frame, read_frames
from mgseg.files.whole_file import PART
from mgseg.network import Network
from mgseg.segment.segmenter import Segmenter, SegmenterOptions

INCIDENTAL = {"device", "processes", "torch", "mgseg", "commit", "speed"}  # may differ where a run is resumed


@dataclass(frozen=True)
class Speed:
    """Speed of a run: frames, seconds in the network (sum over processes), total seconds."""

    frames: int
    network_seconds: float
    seconds: float
    processes: int = 1

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the seconds with frames a second: of the network of one process, and of the whole."""
        network = self.frames / self.network_seconds if self.frames else None
        return asdict(self) | {"network_fps": network, "fps": self.frames / self.seconds if self.frames else None}


def run_split(
    split: Split,
    output: Path,
    network: Network | None = None,
    options: SegmenterOptions | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    processes: Processes | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Segment each sequence of a split from its given masks into `output/SEQUENCE/FRAME.png`.

    An object is given in the first frame whose annotation shows it. Masks are written of the frames that count
    (`VideoSequence.saved`). A sequence's folder appears whole or not at all.

    Args:
        split: what to segment.
        output: folder of the results, made if need be.
        network, options, processes, resume, overwrite: see `evaluate.evaluate_split` and `evaluate.Files`.
        progress: called with (frames done, frames in all) of this process.

    Returns:
        The record of the run, which `output` keeps as well.

    Raises:
        OutputError: the folder contains results, or with `resume` those of other settings, or cannot be written.
        DatasetError: a picture or mask is missing or of another size.
    """
    network, options = network or Network(), options or SegmenterOptions()
    processes = processes or Processes(0, 1, network.device)
    record = _record(split, network, options, processes.world_size)
    plan: list[list[str]] = []
    if processes.is_main:
        plan = _share(_prepare(split, output, record, resume=resume, overwrite=overwrite), processes.world_size)
    mine = split.only(processes.from_main(plan)[processes.rank]).sequences
    segmenter = Segmenter(network, options) if mine else None  # loads the weights
    start, spent = perf_counter(), []
    for sequence in mine:
        assert segmenter
        for seconds in _run_sequence(sequence, segmenter, output, single_object=split.single_object):
            spent.append(seconds)
            if progress:
                progress(len(spent), sum(len(one.frames) for one in mine))
    speed = _join(processes.gather(Speed(len(spent), sum(spent), perf_counter() - start)))
    if speed.frames:
        record["speed"] = speed.to_dict()
    if processes.is_main:
        write_run(output, record)
    return record


def _record(split: Split, network: Network, options: SegmenterOptions, processes: int) -> dict[str, Any]:
    """Return the record of how the masks are made."""
    path, device = network.path, network.device
    return {
        "dataset": split.dataset,
        "split": split.name,
        "weights": {"name": path.name, "sha256": network.sha256} if path else None,
        **options.settings,
        "precision": network.precision,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": processes,
        "torch": torch.__version__,
        **code_version(),
    }


def _prepare(
    split: Split, output: Path, record: dict[str, Any], *, resume: bool, overwrite: bool
) -> list[VideoSequence]:
    """Check that everything can be read and written, and return the sequences that are not finished."""
    for sequence in split.sequences:
        if not sequence.frames:
            raise DatasetError(f"{split.frames_root / sequence.name} contains no pictures")
    done = {name for name in split.names if (output / name).is_dir()}
    if done and resume:
        before = read_run(output) or {}
        if other := [n for n in {**record, **before} if n not in INCIDENTAL and before.get(n) != record.get(n)]:
            message = f"{output} contains the results of a run with other {', '.join(other)}"
            raise OutputError(message, "use the same settings, or choose another folder with --output")
        record["speed"] = before.get("speed")
    elif done and not overwrite:
        raise OutputError(
            f"{output} already contains results", "continue with --resume, or replace them with --overwrite"
        )
    write_run(output, record)
    return [sequence for sequence in split.sequences if not (resume and sequence.name in done)]


def _share(sequences: list[VideoSequence], processes: int) -> list[list[str]]:
    """Share sequences out so that all processes have about the same number of frames."""
    plan: list[list[str]] = [[] for _ in range(processes)]
    load = [0] * processes
    for sequence in sorted(sequences, key=lambda sequence: -len(sequence.frames)):
        least = load.index(min(load))
        plan[least].append(sequence.name)
        load[least] += len(sequence.frames)
    return plan


def _join(speeds: list[Speed]) -> Speed:
    """Join the speeds of processes that ran at the same time."""
    frames, in_network = sum(s.frames for s in speeds), sum(s.network_seconds for s in speeds)
    return Speed(frames, in_network, max(s.seconds for s in speeds), len(speeds))


def _run_sequence(
    sequence: VideoSequence, segmenter: Segmenter, output: Path, *, single_object: bool
) -> Iterator[float]:
    """Segment one sequence; yields the network's seconds frame by frame."""
    folder, part = output / sequence.name, output / (sequence.name + PART)
    saved, started = set(sequence.saved), False
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        with WriteBehind() as sink:
            for frame, given in read_ahead(_inputs(sequence, single_object)):
                start = perf_counter()
                if started:
                    mask = segmenter.step(frame.image, given)
                elif given is not None:
                    mask, started = segmenter.start(frame.image, given), True
                else:
                    mask = np.zeros(frame.image.shape[:2], np.uint8)
                yield perf_counter() - start
                if frame.name in saved:
                    sink.put(_write, (part / f"{frame.name}.png", mask, segmenter.confidence if started else None))
        if not started:
            raise DatasetError(f"no mask of {sequence.name} contains an object")
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)  # gone already where all went well


def _write(item: tuple[Path, NDArray[np.uint8], dict[int, float] | None]) -> None:
    path, mask, confidence = item
    write_mask(path, mask, confidence=confidence)


def _inputs(sequence: VideoSequence, single_object: bool) -> Iterator[tuple[Frame, NDArray[np.uint8] | None]]:
    """Yield each frame with the mask of the objects that first appear in it, None where there is none."""
    known: set[int] = set()
    for frame in read_frames(sequence.frames[0].parent):
        given = None
        if frame.name in sequence.masks and not (single_object and known):
            mask = read_index_map(sequence.masks[frame.name])
            if mask.shape != frame.image.shape[:2]:
                sizes = [f"{shape[1]}x{shape[0]}" for shape in (mask.shape, frame.image.shape)]
                raise DatasetError(f"{sequence.masks[frame.name]} is {sizes[0]}, its picture is {sizes[1]}")
            mask = (mask > 0).view(np.uint8) if single_object else mask
            new = set(ids_of(mask)) - known - {VOID}
            if new:
                shown = [*new, VOID] if not known else [*new]
                given = np.where(np.isin(mask, shown), mask, np.uint8(0))
            known |= new
        yield frame, given
