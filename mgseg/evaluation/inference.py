"""Segmenting the sequences of a split into a folder of masks: resumable by sequence, shared out over processes."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from mgseg.data.catalog import Split, VideoSequence
from mgseg.device import find_device, find_precision
from mgseg.errors import DatasetError, OutputError
from mgseg.evaluation.provenance import code_version, read_run, write_run
from mgseg.evaluation.scoring import ids_of
from mgseg.files.masks import VOID, read_index_map, write_mask
from mgseg.files.threads import WriteBehind, read_ahead
from mgseg.files.video import Frame, read_frames
from mgseg.files.whole_file import PART
from mgseg.model.network import MotionGuidedSTM
from mgseg.segment.segmenter import Segmenter, SegmenterOptions
from mgseg.weights import AUTO, choose_weights, find_weights, load_model, sha256_of

PATIENCE = timedelta(days=2)  # for the process with the longest share
INCIDENTAL = {"device", "processes", "torch", "mgseg", "commit", "speed"}  # may differ where a run is resumed


@dataclass(frozen=True)
class Speed:
    """How fast a run was: frames, seconds in the network (of all processes together), seconds of the whole."""

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
    model: MotionGuidedSTM | None = None,
    options: SegmenterOptions | None = None,
    *,
    weights: str | Path = AUTO,
    device: torch.device | str | None = None,
    precision: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    shared: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], bool]:
    """Segment each sequence of a split from its given masks into `output/SEQUENCE/FRAME.png`.

    An object is given in the first frame whose annotation shows it. A sequence's folder appears whole or not at
    all. Masks are written of the frames that count (`VideoSequence.saved`).

    Args:
        split: what to segment.
        output: folder of the results, made if need be.
        progress: called with (frames done, frames in all) of this process.
        resume, overwrite: see `evaluate.Files`.
        model, options, weights, device, precision, shared: see `evaluate.evaluate_split`.

    Returns:
        The record of the run, which `output` keeps as well, and whether this is its first process.

    Raises:
        OutputError: there are results already, or other ones than `resume` needs; the folder cannot be written.
        DatasetError: a picture or mask is missing or of another size.
    """
    rank, processes = _join() if shared else (0, 1)
    if model and device is None:
        place = model.mean.device
    else:
        place = find_device(_own_device(str(device or "auto")) if shared else str(device or "auto"))
    options = options or SegmenterOptions()
    options = replace(options, precision=find_precision(precision or options.precision, place))
    path = None if model else find_weights(choose_weights(place.type) if weights == AUTO else weights)
    record = _record(split, path, options, place, processes)
    plan: list[list[str]] = []
    if rank == 0:
        plan = _share(_prepare(split, output, record, resume=resume, overwrite=overwrite), processes)
    plan = _from_first(plan) if shared else plan
    mine = split.only(plan[rank]).sequences
    total, done, network, start = sum(len(sequence.frames) for sequence in mine), 0, 0.0, perf_counter()
    if mine:
        segmenter = Segmenter(model or load_model(path or weights, place, options.precision), options, place)
        start = perf_counter()
    for sequence in mine:
        for seconds in _run_sequence(sequence, segmenter, output, any_id=split.single_object):
            network, done = network + seconds, done + 1
            if progress:
                progress(done, total)
    speed = Speed(done, network, perf_counter() - start)
    speed = _gather(speed, processes) if shared else speed
    if speed.frames:
        record["speed"] = speed.to_dict()
    if rank == 0:
        write_run(output, record)
    return record, rank == 0


def _record(
    split: Split, path: Path | None, options: SegmenterOptions, place: torch.device, processes: int
) -> dict[str, Any]:
    """Return how masks are made."""
    return {
        "dataset": split.dataset,
        "split": split.name,
        "weights": {"name": path.name, "sha256": sha256_of(path)} if path else None,
        **{name: value for name, value in asdict(options).items() if name != "objects_at_once"},
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else place.type,
        "processes": processes,
        "torch": torch.__version__,
        **code_version(),
    }


def _prepare(
    split: Split, output: Path, record: dict[str, Any], *, resume: bool, overwrite: bool
) -> list[VideoSequence]:
    """Check that all can be read and written, and return the sequences that are to be done."""
    for sequence in split.sequences:
        if not sequence.frames:
            raise DatasetError(f"{split.frames_root / sequence.name} holds no pictures")
    done = {name for name in split.names if (output / name).is_dir()}
    if done and resume:
        before = read_run(output) or {}
        if other := [name for name in record if name not in INCIDENTAL and before.get(name) != record[name]]:
            message = f"{output} holds the results of another run, with other {', '.join(other)}"
            raise OutputError(message, "run with the same settings, or into another folder")
        record["speed"] = before.get("speed")
    elif done and not overwrite:
        raise OutputError(f"{output} holds results", "--resume goes on with them, --overwrite replaces them")
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


def _join() -> tuple[int, int]:
    """Return rank and number of the processes; the group is made from torchrun's variables if there is none."""
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=PATIENCE)
    return dist.get_rank(), dist.get_world_size()


def _own_device(name: str) -> str:
    """Give each of a machine's processes another CUDA device, where no particular one was asked for."""
    place = find_device(name)
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if place.type == "cuda" and place.index is None else name


def _from_first(plan: list[list[str]]) -> list[list[str]]:
    """Return the first process's plan, the same for all even while sequences are being finished."""
    box: list[Any] = [plan]
    dist.broadcast_object_list(box)
    return list(box[0])


def _gather(speed: Speed, processes: int) -> Speed:
    speeds: list[Any] = [None] * processes
    dist.all_gather_object(speeds, speed)
    frames, network = sum(s.frames for s in speeds), sum(s.network_seconds for s in speeds)
    return Speed(frames, network, max(s.seconds for s in speeds), processes)


def _run_sequence(sequence: VideoSequence, segmenter: Segmenter, output: Path, *, any_id: bool) -> Iterator[float]:
    """Segment one sequence; yields the network's seconds frame by frame."""
    folder, part = output / sequence.name, output / (sequence.name + PART)
    saved, started = set(sequence.saved), False
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        with WriteBehind() as sink:
            for frame, given in read_ahead(_inputs(sequence, any_id)):
                start = perf_counter()
                if started:
                    mask = segmenter.step(frame.image, given)
                elif given is not None:
                    mask, started = segmenter.start(frame.image, given), True
                else:
                    mask = np.zeros(frame.image.shape[:2], np.uint8)
                yield perf_counter() - start
                if frame.name in saved:
                    sink.put(_write, (part / f"{frame.name}.png", mask))
        if not started:
            raise DatasetError(f"no mask of {sequence.name} gives an object")
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from error


def _write(item: tuple[Path, NDArray[np.uint8]]) -> None:
    write_mask(*item)


def _inputs(sequence: VideoSequence, any_id: bool) -> Iterator[tuple[Frame, NDArray[np.uint8] | None]]:
    """Yield each frame with the mask of the objects that first appear in it, None where there is none."""
    known: set[int] = set()
    for frame in read_frames(sequence.frames[0].parent):
        given = None
        if frame.name in sequence.masks and not (any_id and known):
            mask = read_index_map(sequence.masks[frame.name])
            if mask.shape != frame.image.shape[:2]:
                sizes = [f"{shape[1]}x{shape[0]}" for shape in (mask.shape, frame.image.shape)]
                raise DatasetError(f"{sequence.masks[frame.name]} is {sizes[0]}, its picture {sizes[1]}")
            mask = (mask > 0).view(np.uint8) if any_id else mask
            new = set(ids_of(mask)) - known - {VOID}
            if new:
                shown = [*new, VOID] if not known else [*new]
                given = np.where(np.isin(mask, shown), mask, np.uint8(0))
            known |= new
        yield frame, given
