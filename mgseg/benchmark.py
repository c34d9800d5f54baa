"""Benchmark: speed and memory of a network, part by part, compared with its plain form in the same run.

Both forms segment the same made-up clip and remember every frame until `memory_frames` are in memory; from then on
steps are timed. Shapes: N objects, H x W the frames, which the network sees at that size.
"""

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mgseg.device import denormals_as_zero
from mgseg.errors import InputError
from mgseg.files.masks import write_mask
from mgseg.files.video import read_frames
from mgseg.files.video_writer import VideoWriter
from mgseg.model.fast.counts import operation_counts
from mgseg.model.network import MotionGuidedSTM
from mgseg.model.reference import PlainSegmenter
from mgseg.network import Network
from mgseg.segment.segmenter import Segmenter, SegmenterOptions
from mgseg.weights import load_network

# Methods of the network -> the part of a step that they are.
PARTS = {
    "encode_query": "encode_query",
    "read": "read",
    "decode": "decode_masks",
    "memory_stem": "encode_memory",
    "encode_memory": "encode_memory",
}
TIE = 1e-3  # a tie: the two largest probabilities are closer than this, so masks may differ
Image = NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True)
class BenchOptions:
    """Settings of the benchmark.

    Attributes:
        height, width: of the frames, in pixels, multiples of 16.
        objects: how many objects are segmented.
        memory_frames: frames in memory, the first and the previous one included.
        repeats: steps of which the median counts.
        plain: whether to run the plain form, too; it computes in float32.
    """

    height: int = 480
    width: int = 864
    objects: int = 1
    memory_frames: int = 5
    repeats: int = 5
    plain: bool = True

    def check(self) -> None:
        """Raise an InputError if these settings cannot be measured."""
        if self.memory_frames < 2 or not 1 <= self.objects <= self.width // 32 or self.repeats < 1:
            limit = self.width // 32
            raise InputError(f"expected 2 or more memory frames, 1 to {limit} objects and 1 or more repeats")
        if self.height % 16 or self.width % 16 or min(self.height, self.width) < 32:
            raise InputError(f"{self.height}x{self.width}: both must be multiples of 16", "try --size 480x864")


def run_benchmark(network: Network, options: BenchOptions) -> dict[str, Any]:
    """Measure, and return plain values: seconds, frames a second, bytes, operations, ratios to the plain form.

    Args:
        network: from a file; a process of its own, in which memory is measured, loads it again.
        options: what is measured.

    Raises:
        InputError: the options cannot be measured, or the network was built in memory.
        WeightsError: the weights cannot be loaded.
    """
    options.check()
    model = _plain_model(network)
    parameters = sum(p.numel() for p in model.parameters())
    plain: dict[str, Any] = {}
    with torch.inference_mode(), denormals_as_zero():
        if options.plain:
            plain, probs = _measure(_start_plain(model, options), network, options, plain=True)
    del model
    # Only now, for loading it changes how the process keeps memory.
    segmenter = _segmenter(network, options)
    with torch.inference_mode(), denormals_as_zero():
        step = _start_ours(segmenter, options)
        ours, masks = _measure(step, network, options, plain=False)
        parts = {**_network_parts(network, step, options), **_file_parts(network.device, options)}
    setting = {"weights": network.name, "device": str(network.device), "precision": network.precision}
    report = {
        "options": setting | asdict(options),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "parameters": parameters,
        **ours,
        "frames_a_second": 1 / ours["seconds_a_frame"],
        "parts": parts,
    }
    if options.plain:
        report["plain"] = plain
        report["ratios"] = {name: ours[name] / plain[name] for name in plain if plain[name]}
        report["masks"] = _compare(masks, probs)
    return report


def _plain_model(network: Network) -> MotionGuidedSTM:
    """Load the network as it was trained, in float32, on the device."""
    if network.path is None:
        raise InputError("the benchmark needs a network that was loaded from a file; this one was built in memory")
    return load_network(network.path).to(network.device)


def _segmenter(network: Network, options: BenchOptions) -> Segmenter:
    kept = max(1, options.memory_frames - 2)  # beside the first and the previous frame
    return Segmenter(network, SegmenterOptions(size=0, memory_every=1, memory_size=kept))


def _frames(options: BenchOptions) -> Iterator[Image]:
    """Yield frames (H, W, 3) of a coarse random pattern that moves, without end."""
    cells = np.random.default_rng(0).integers(0, 256, (options.height // 16, options.width // 16, 3), dtype=np.uint8)
    pattern = cells.repeat(16, axis=0).repeat(16, axis=1)
    while True:
        yield pattern
        pattern = np.roll(pattern, 3, axis=1)


def _first_mask(options: BenchOptions) -> Image:
    """Return upright stripes of objects 1..N with background between them, (H, W)."""
    stripes = np.arange(options.width) * 2 * options.objects // options.width
    mask = np.zeros((options.height, options.width), dtype=np.uint8)
    mask[options.height // 4 : -options.height // 4] = np.where(stripes % 2 == 0, stripes // 2 + 1, 0)
    return mask


def _as_tensor(frame: Image, device: torch.device) -> Tensor:
    return torch.from_numpy(frame.copy()).to(device).permute(2, 0, 1).unsqueeze(0).float() / 255


def _start_ours(segmenter: Segmenter, options: BenchOptions) -> Callable[[], Image]:
    """Start our form on the clip; return what segments its next frame: a mask (H, W)."""
    frames = _frames(options)
    segmenter.start(next(frames), _first_mask(options))
    return lambda: segmenter.step(next(frames))


def _start_plain(model: MotionGuidedSTM, options: BenchOptions) -> Callable[[], Tensor]:
    """Start the plain form on the clip; return what segments its next frame: probabilities (N + 1, H, W)."""
    plain, frames, first, device = PlainSegmenter(model, 1), _frames(options), _first_mask(options), model.mean.device
    ids = torch.arange(1, options.objects + 1, dtype=torch.uint8).view(-1, 1, 1)
    plain.start(_as_tensor(next(frames), device), (torch.from_numpy(first) == ids).float().to(device))

    def step() -> Tensor:
        if plain.number >= options.memory_frames:  # leave room for the previous frame
            plain.keys, plain.values = (x[:, :, : options.memory_frames - 1] for x in (plain.keys, plain.values))
        return plain.step(_as_tensor(next(frames), device))

    return step


def _measure(
    step: Callable[[], T], network: Network, options: BenchOptions, plain: bool
) -> tuple[dict[str, Any], list[T]]:
    """Return a form's figures, and its results until the memory is full."""
    results = [step() for _ in range(options.memory_frames)]
    figures = {
        "seconds_a_frame": _median_seconds(step, network.device, options.repeats),
        "gflops": _gflops(step),
        "peak_bytes": _peak_bytes(network, options, plain),
    }
    return figures, results


def _compare(ours: list[Image], theirs: list[Tensor]) -> dict[str, int]:
    """Count the pixels of masks that differ where the plain form's two largest probabilities are no tie."""
    counts = {"pixels": 0, "ties": 0, "differences": 0}
    for mask, prob in zip(ours, (x.cpu() for x in theirs), strict=True):
        best = prob.topk(2, dim=0).values
        clear = (best[0] - best[1] > TIE).numpy()
        counts["pixels"] += mask.size
        counts["ties"] += int((~clear).sum())
        counts["differences"] += int((mask != prob.argmax(0).numpy())[clear].sum())
    return counts


def _network_parts(network: Network, step: Callable[[], Image], options: BenchOptions) -> dict[str, float]:
    """Time the parts of a step, in seconds, each for all objects."""
    spent: dict[str, float] = {}

    def watch(method: str, part: str) -> None:
        run = getattr(network.model, method)

        def timed(*arguments: Any) -> Any:
            start = _now(network.device)
            result = run(*arguments)
            spent[part] = spent.get(part, 0) + _now(network.device) - start
            return result

        setattr(network.model, method, timed)

    for method, part in PARTS.items():
        watch(method, part)
    steps = []
    for _ in range(options.repeats):
        spent.clear()
        step()
        steps.append(dict(spent))
    for method in PARTS:
        delattr(network.model, method)
    return {part: median(each[part] for each in steps) for part in PARTS.values()}


def _file_parts(device: torch.device, options: BenchOptions) -> dict[str, float]:
    """Time decoding a video of such frames and writing masks, in seconds a frame."""
    frames, count = _frames(options), 20
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        with VideoWriter(clip, (options.height, options.width), Fraction(25), Fraction(1, 25)) as writer:
            for i in range(count):
                writer.write(next(frames), Fraction(i, 25))
        decode = _median_seconds(lambda: sum(1 for _ in read_frames(clip)), device, options.repeats) / count
        mask = _first_mask(options)
        write = _median_seconds(lambda: write_mask(Path(folder) / "mask.png", mask), device, options.repeats)
    return {"decode": decode, "write": write}


def _median_seconds(run: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Return the median of the seconds that `run` takes, after one run to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        start = _now(device)
        run()
        seconds.append(_now(device) - start)
    return median(seconds[1:])


def _now(device: torch.device) -> float:
    """Return the time in seconds when the device has done all its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def _gflops(run: Callable[[], Any]) -> float:
    """Count the operations of `run` in 1e9, of integers too; a multiplication and its addition are two."""
    with FlopCounterMode(display=False, custom_mapping=operation_counts()) as counter:
        run()
    return counter.get_total_flops() / 1e9


def _peak_bytes(network: Network, options: BenchOptions, plain: bool) -> int | None:
    """Return the memory at the peak beyond the model, in a process of its own; None where it cannot be read.

    On a CPU that is the resident memory of Linux's /proc.
    """
    if network.device.type != "cuda" and not sys.platform.startswith("linux"):
        return None
    found = (network.path, str(network.device), network.precision)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        peak: int = pool.apply(_peak_here, (found, options, plain, torch.get_num_threads()))
    return peak


def _peak_here(found: tuple[Path, str, str], options: BenchOptions, plain: bool, threads: int) -> int:
    torch.set_num_threads(threads)
    network = Network(*found)
    model = _plain_model(network) if plain else network.model
    device = network.device
    with torch.inference_mode(), denormals_as_zero():
        model.encode_query(torch.zeros(1, 3, 32, 32, device=device))  # libraries allocate memory of their own
        if device.type == "cuda":
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
        else:
            before = _resident("VmRSS")
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
        step = _start_plain(model, options) if plain else _start_ours(_segmenter(network, options), options)
        for _ in range(options.memory_frames + 1):
            step()
        if device.type == "cuda":
            return torch.cuda.max_memory_allocated(device) - before
        return _resident("VmHWM") - before


def _resident(field: str) -> int:
    """Return a field of this process's /proc status in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
