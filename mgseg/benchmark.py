"""How fast a network segments and in how much memory, by parts, beside its plain textbook form in the same run.

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
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from mgseg.device import denormals_as_zero, has_int8
from mgseg.errors import InputError
from mgseg.files.masks import write_mask
from mgseg.files.video import read_frames
from mgseg.files.video_writer import VideoWriter
from mgseg.model.fast.fused import fused_operations
from mgseg.model.network import PRESETS, MotionGuidedSTM
from mgseg.model.reference import PlainSegmenter
from mgseg.segment.segmenter import Segmenter, SegmenterOptions
from mgseg.weights import load_network, make_ready

RANDOM = "random:"
# Methods of the network -> the part of a step that they are.
PARTS = {
    "encode_query": "encode_query",
    "read": "read",
    "decode": "decode_masks",
    "memory_stem": "encode_memory",
    "encode_memory": "encode_memory",
}
TIE = 1e-3  # masks may differ where the two largest probabilities are closer than this
Image = NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True)
class BenchOptions:
    """What is measured.

    Attributes:
        weights: a released name or a file, or "random:resnet50" and "random:lite".
        height, width: of the frames, in pixels, multiples of 16.
        objects: how many objects are segmented.
        memory_frames: frames in memory, the first and the previous one included.
        repeats: steps of which the median counts.
        device: as torch names it.
        precision: of our form; the plain form runs in float32.
        plain: whether to run the plain form, too.
    """

    weights: str
    height: int = 480
    width: int = 864
    objects: int = 1
    memory_frames: int = 5
    repeats: int = 5
    device: str = "cpu"
    precision: str = "float32"
    plain: bool = True

    def check(self) -> None:
        """Raise an InputError for what cannot be measured."""
        if self.memory_frames < 2 or not 1 <= self.objects <= self.width // 32 or self.repeats < 1:
            limit = self.width // 32
            raise InputError(f"expected 2 or more memory frames, 1 to {limit} objects and 1 or more repeats")
        if self.height % 16 or self.width % 16 or min(self.height, self.width) < 32:
            raise InputError(f"{self.height}x{self.width}: both must be multiples of 16", "try --size 480x864")

    @property
    def place(self) -> torch.device:
        """The device."""
        return torch.device(self.device)


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of "480x864"; an InputError for anything else."""
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise InputError(f"size {text!r}: expected HEIGHTxWIDTH", "try --size 480x864")
    return int(parts[0]), int(parts[1])


def run_benchmark(options: BenchOptions) -> dict[str, Any]:
    """Measure, and return plain values: seconds, frames a second, bytes, operations, ratios to the plain form.

    Raises:
        InputError: the options cannot be measured.
        WeightsError: the weights cannot be loaded.
    """
    options.check()
    network = _network(options)
    parameters = sum(p.numel() for p in network.parameters())
    with torch.inference_mode(), denormals_as_zero():
        plain, probs = _measure(_start_plain(network, options), options, plain=True) if options.plain else ({}, [])
        network = make_ready(network, options.place, options.precision)
        step = _start_ours(network, options)
        ours, masks = _measure(step, options, plain=False)
        report = {
            "options": asdict(options),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "parameters": parameters,
            **ours,
            "frames_a_second": 1 / ours["seconds_a_frame"],
            "parts": {**_network_parts(network, step, options), **_file_parts(options)},
        }
    if options.plain:
        report["plain"] = plain
        report["ratios"] = {name: ours[name] / plain[name] for name in plain if plain[name]}
        report["masks"] = _compare(masks, probs)
    return report


def _network(options: BenchOptions) -> MotionGuidedSTM:
    """Load or make up the network, not folded, on the device."""
    name = options.weights.removeprefix(RANDOM)
    if name == options.weights:
        return load_network(name).to(options.place)
    if name not in PRESETS:
        raise InputError(f"no network {name!r}", f"random weights: {', '.join(RANDOM + p for p in PRESETS)}")
    torch.manual_seed(0)
    return MotionGuidedSTM(PRESETS[name]).to(options.place).eval()


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


def _as_tensor(frame: Image, options: BenchOptions) -> Tensor:
    return torch.from_numpy(frame.copy()).to(options.place).permute(2, 0, 1).unsqueeze(0).float() / 255


def _start_ours(network: MotionGuidedSTM, options: BenchOptions) -> Callable[[], Image]:
    """Start our form on the clip; return what segments its next frame: a mask (H, W)."""
    kept = max(1, options.memory_frames - 2)  # beside the first and the previous frame
    settings = SegmenterOptions(size=0, memory_every=1, memory_size=kept, precision=options.precision)
    segmenter, frames = Segmenter(network, settings, options.place), _frames(options)
    segmenter.start(next(frames), _first_mask(options))
    return lambda: segmenter.step(next(frames))


def _start_plain(network: MotionGuidedSTM, options: BenchOptions) -> Callable[[], Tensor]:
    """Start the plain form on the clip; return what segments its next frame: probabilities (N + 1, H, W)."""
    plain, frames, first = PlainSegmenter(network, memory_every=1), _frames(options), _first_mask(options)
    ids = torch.arange(1, options.objects + 1, dtype=torch.uint8).view(-1, 1, 1)
    plain.start(_as_tensor(next(frames), options), (torch.from_numpy(first) == ids).float().to(options.place))

    def step() -> Tensor:
        if plain.number >= options.memory_frames:  # leave room for the previous frame
            plain.keys, plain.values = (x[:, :, : options.memory_frames - 1] for x in (plain.keys, plain.values))
        return plain.step(_as_tensor(next(frames), options))

    return step


def _measure(step: Callable[[], T], options: BenchOptions, plain: bool) -> tuple[dict[str, Any], list[T]]:
    """Return a form's figures, and its results until the memory is full."""
    results = [step() for _ in range(options.memory_frames)]
    figures = {
        "seconds_a_frame": _median_seconds(step, options),
        "gflops": _gflops(step),
        "peak_bytes": _peak_bytes(options, plain),
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


def _network_parts(network: MotionGuidedSTM, step: Callable[[], Image], options: BenchOptions) -> dict[str, float]:
    """Time the parts of a step, in seconds, each for all objects."""
    spent: dict[str, float] = {}

    def watch(method: str, part: str) -> None:
        run = getattr(network, method)

        def timed(*arguments: Any) -> Any:
            start = _now(options)
            result = run(*arguments)
            spent[part] = spent.get(part, 0) + _now(options) - start
            return result

        setattr(network, method, timed)

    for method, part in PARTS.items():
        watch(method, part)
    steps = []
    for _ in range(options.repeats):
        spent.clear()
        step()
        steps.append(dict(spent))
    for method in PARTS:
        delattr(network, method)
    return {part: median(each[part] for each in steps) for part in PARTS.values()}


def _file_parts(options: BenchOptions) -> dict[str, float]:
    """Time decoding a video of such frames and writing masks, in seconds a frame."""
    frames, count = _frames(options), 20
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        with VideoWriter(clip, (options.height, options.width), Fraction(25), Fraction(1, 25)) as writer:
            for i in range(count):
                writer.write(next(frames), Fraction(i, 25))
        decode = _median_seconds(lambda: sum(1 for _ in read_frames(clip)), options) / count
        mask = _first_mask(options)
        write = _median_seconds(lambda: write_mask(Path(folder) / "mask.png", mask), options)
    return {"decode": decode, "write": write}


def _median_seconds(run: Callable[[], Any], options: BenchOptions) -> float:
    """Return the median of the seconds that `run` takes, after one run to warm up."""
    seconds = []
    for _ in range(options.repeats + 1):
        start = _now(options)
        run()
        seconds.append(_now(options) - start)
    return median(seconds[1:])


def _now(options: BenchOptions) -> float:
    """Return the time in seconds when the device has done all its work."""
    if options.place.type != "cpu":
        torch.accelerator.synchronize(options.place)
    return time.perf_counter()


def _gflops(run: Callable[[], Any]) -> float:
    """Count the operations of `run` in 1e9, of integers too; a multiplication and its addition are two."""

    def count(x: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
        return conv_flop_count(x, weight, out_shape)

    def count_onto(_: Any, *arguments: Any, out_shape: Any, **__: Any) -> int:
        return count(*arguments, out_shape=out_shape)

    def count_int8(x: Any, _scale: Any, _zero: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
        return conv_flop_count(x, weight, out_shape)

    also = dict(zip(fused_operations(), (count, count_onto), strict=False))
    if has_int8():
        also[torch.ops.onednn.qconv2d_pointwise] = count_int8
    with FlopCounterMode(display=False, custom_mapping=also) as counter:
        run()
    return counter.get_total_flops() / 1e9


def _peak_bytes(options: BenchOptions, plain: bool) -> int | None:
    """Return the memory at the peak beyond the model, in a process of its own; None where it cannot be read.

    On a CPU that is the resident memory of Linux's /proc.
    """
    if options.place.type != "cuda" and not sys.platform.startswith("linux"):
        return None
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        peak: int = pool.apply(_peak_here, (options, plain, torch.get_num_threads()))
    return peak


def _peak_here(options: BenchOptions, plain: bool, threads: int) -> int:
    torch.set_num_threads(threads)
    network = _network(options)
    if not plain:
        network = make_ready(network, options.place, options.precision)
    with torch.inference_mode(), denormals_as_zero():
        network.encode_query(torch.zeros(1, 3, 32, 32, device=options.place))  # libraries make room for themselves
        if options.place.type == "cuda":
            before = torch.cuda.memory_allocated(options.place)
            torch.cuda.reset_peak_memory_stats(options.place)
        else:
            before = _resident("VmRSS")
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
        step = _start_plain(network, options) if plain else _start_ours(network, options)
        for _ in range(options.memory_frames + 1):
            step()
        if options.place.type == "cuda":
            return torch.cuda.max_memory_allocated(options.place) - before
        return _resident("VmHWM") - before


def _resident(field: str) -> int:
    """Return a field of this process's /proc status in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
