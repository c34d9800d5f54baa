"""Device and precision selection; allocator settings; out-of-memory detection."""

import ctypes
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mgseg.errors import DeviceError

INT8 = "int8"  # the convolutions of a model loaded for it; all else is float32
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, INT8: torch.float32}

# Parameters of glibc's mallopt(3): the size from which a block is mapped by itself and goes back when it is freed, and
# how much free memory may stay at the heap's end.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_MAPPED_FROM, _MAPPED_FROM_IN_OLD_GLIBC, _KEPT = 2**28, 2**25, 2**29  # bytes; feature maps at 480p have 2**24 to 2**27


def find_device(name: str = "auto") -> torch.device:
    """Find a device by name. Turns off TF32 on CUDA, so that float32 is computed in float32 there, too.

    Args:
        name: "cpu", "cuda", "cuda:N", "mps", or "auto" for the first of cuda, mps, cpu that is there.

    Raises:
        DeviceError: unknown or absent.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"unknown device {name!r}", "devices are auto, cpu, cuda, cuda:N and mps") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            hint = "use --device cpu, or install an NVIDIA driver and a torch build with CUDA"
            raise DeviceError(f"{name} was asked for, but torch finds {count or 'no'} CUDA device(s)", hint)
        torch.backends.cudnn.allow_tf32 = False
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("mps was asked for, but torch finds no Apple GPU", "use --device cpu")
    elif device.type != "cpu":
        raise DeviceError(f"the device {name} is not supported", "devices are auto, cpu, cuda, cuda:N and mps")
    return device


def find_precision(name: str, device: torch.device) -> str:
    """Resolve "auto": float16 on a CUDA device (closer to float32 than bfloat16), else float32.

    Raises:
        DeviceError: an unknown name, or "int8" on a device that does not compute in it.
    """
    if name == "auto":
        return "float16" if device.type == "cuda" else "float32"
    if name not in PRECISIONS:
        raise DeviceError(f"unknown precision {name!r}", f"precisions are auto, {', '.join(PRECISIONS)}")
    if name == INT8 and not (device.type == "cpu" and has_int8()):
        hint = "use --precision auto"
        raise DeviceError(f"int8 needs an x86 CPU with VNNI and does not run on this {device.type}", hint)
    return name


def keep_freed_memory() -> None:
    """Keep the memory of freed CPU tensors in the process, for the tensors that follow.

    glibc gives blocks as large as feature maps back to the system and fetches them anew, page by page, for the next
    layer: up to half of the light network's time. Does nothing where the C library is another. Not for training,
    whose sizes change: kept blocks that fit nothing any more would add up.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM) or mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_IN_OLD_GLIBC)
    mallopt(_M_TRIM_THRESHOLD, _KEPT)


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Treat numbers below 1e-38 (denormal) as 0; a CPU computes with them a hundred times slower.

    A peaked softmax over the memory is full of such numbers, and so are the gradients of pixels that the network is
    sure of. It holds for this thread and, for good, for the threads that torch starts for it meanwhile; those that it
    started before stay as they are.
    """
    before = float(torch.tensor(1e-30) * torch.tensor(1e-10)) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@cache
def has_int8() -> bool:
    """Whether int8 convolutions are exact and faster than float32 on this CPU: x86 with VNNI.

    Without VNNI, or where ONEDNN_MAX_CPU_ISA keeps oneDNN from using it, sums of two products are cut at 16 bits.
    """
    operation = torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qconv2d_pointwise")
    return operation and bool(getattr(torch.cpu, "_is_vnni_supported", bool)()) and _has_exact_sums()


def _has_exact_sums() -> bool:
    """Check that a sum of the largest 8-bit products does not overflow."""
    x = torch.full((1, 64, 8, 8), 255, dtype=torch.uint8)
    weight = torch.full((16, 64, 1, 1), 127, dtype=torch.int8)
    scale, zero, shape = torch.ones(16), torch.zeros(16, dtype=torch.int32), ([1, 1], [0, 0], [1, 1], 1)
    ordered = torch.ops.onednn.qconv_prepack(weight, scale, 1.0, 0, *shape, list(x.shape))
    end: tuple[object, ...] = (1.0, 0, torch.float32, "none", [], "")
    y: Tensor = torch.ops.onednn.qconv2d_pointwise(x, 1.0, 0, ordered, scale, zero, None, *shape, *end)
    return bool((y == 64 * 127 * 255).all())


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means out of memory: CUDA has a class for it, other allocators a text."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in words)


class SpareThreads:
    """Computes with one thread while other programs keep the CPUs busy.

    The threads of a layer wait for each other. Where the CPUs are shared, one of them is always waiting for its turn,
    and the others spin meanwhile and use up theirs: two threads beside two busy programs are ten to fifty times slower
    than alone, while one thread only gets its share.

    For Linux, which says how long a thread waited for a CPU, and x86 with AVX, where the number of threads changes
    results by rounding at most. Elsewhere it does nothing.
    """

    _CROWDED = 0.1  # of the time, spent waiting for a CPU
    _LONGEST = 60.0  # seconds until all threads are tried again

    def __init__(self) -> None:
        self._applies = sys.platform.startswith("linux") and torch.backends.cpu.get_cpu_capability().startswith("AVX")
        self._until = 0.0  # when all threads are tried again
        self._pause = 1.0  # seconds

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Compute what is inside with all threads, or with one."""
        threads = torch.get_num_threads()
        if threads == 1 or not self._applies:
            yield
            return
        began, waited = time.monotonic(), _seconds_waited()
        if began < self._until:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
        now = time.monotonic()
        if began < self._until:
            return
        crowded = _seconds_waited() - waited > self._CROWDED * (now - began)
        self._until = now + self._pause if crowded else 0.0
        self._pause = min(2 * self._pause, self._LONGEST) if crowded else 1.0


def _seconds_waited() -> float:
    """Return how long this thread was ready to run without a CPU; 0 if a container hides it."""
    try:
        text = Path("/proc/thread-self/schedstat").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return int(text.split()[1]) / 1e9
