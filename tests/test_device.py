"""Devices that are absent are named; what the C library is told about memory holds in the process that told it."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from mgseg.device import SpareThreads, denormals_as_zero, find_device, find_precision, has_int8
from mgseg.errors import DeviceError
from mgseg.model.fast.prepare import prepare_for_inference
from mgseg.model.network import ModelConfig, MotionGuidedSTM
from mgseg.network import Network
from mgseg.segment.segmenter import Segmenter

COUNT_PAGE_FAULTS = """
import resource, torch
from mgseg.device import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(8 << 20)  # 32 MB: a feature map of the first layers
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before = faults()
keep_freed_memory()
faults()
print(before, faults())
"""


def test_a_cuda_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert find_device("auto").type != "cuda"
    with pytest.raises(DeviceError, match=r"cuda:1 was asked for, but torch finds no CUDA device") as caught:
        find_device("cuda:1")
    assert "--device cpu" in caught.value.hint


def test_auto_is_half_precision_on_a_gpu_alone():
    found = [find_precision("auto", torch.device(device)) for device in ("cpu", "mps", "cuda")]
    assert found == ["float32", "float32", "float16"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_freed_memory_is_used_again_instead_of_fetched_anew():
    found = subprocess.run([sys.executable, "-c", COUNT_PAGE_FAULTS], capture_output=True, text=True, check=True)
    before, after = map(int, found.stdout.split())
    assert after < before / 10


@pytest.mark.parametrize("before", [False, True])
def test_denormal_numbers_are_zero_inside_and_afterwards_what_they_were(before):
    def product():
        return float(torch.tensor(1e-30) * torch.tensor(1e-10))

    torch.set_flush_denormal(before)
    try:
        with denormals_as_zero():
            assert product() == 0
        assert (product() == 0) == before
    finally:
        torch.set_flush_denormal(False)


HAS_DENORMALS = """
import torch
from mgseg.device import SpareThreads, denormals_as_zero
with denormals_as_zero():
    whole = torch.full((1 << 20,), 1e-30) * 1e-10  # by all threads
print(int((whole != 0).sum()), torch.get_num_threads())
"""


def test_the_threads_that_start_inside_take_them_for_zero_too():
    found = subprocess.run([sys.executable, "-c", HAS_DENORMALS], capture_output=True, text=True, check=True)
    assert found.stdout.split()[0] == "0"


@pytest.mark.skipif(not has_int8(), reason="int8 is refused here without it")
def test_int8_is_refused_where_its_sums_would_be_cut():
    without_vnni = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    program = "from mgseg.device import has_int8; print(has_int8())"
    found = subprocess.run(
        [sys.executable, "-c", program], env=without_vnni, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"


needs_avx = pytest.mark.skipif(
    not (sys.platform.startswith("linux") and torch.backends.cpu.get_cpu_capability().startswith("AVX")),
    reason="for x86 with AVX under Linux",
)


class Scheduler:
    """A clock, and how long the thread was kept waiting: `crowd` of each second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.waited = self.crowd = 0.0
        monkeypatch.setattr("mgseg.device.time.monotonic", lambda: self.now)
        monkeypatch.setattr("mgseg.device._seconds_waited", lambda: self.waited)

    def count_threads(self, spare: SpareThreads, seconds: float = 1.0) -> int:
        """Compute for a while; return with how many threads."""
        with spare():
            self.now += seconds
            self.waited += self.crowd * seconds
            return torch.get_num_threads()


@needs_avx
def test_a_crowded_cpu_is_computed_on_with_one_thread_and_all_are_tried_again_ever_later(monkeypatch):
    torch.set_num_threads(3)
    scheduler, spare = Scheduler(monkeypatch), SpareThreads()
    assert [scheduler.count_threads(spare) for _ in range(2)] == [3, 3]
    scheduler.crowd = 0.5
    assert [scheduler.count_threads(spare) for _ in range(8)] == [3, 1, 3, 1, 1, 3, 1, 1]
    counts = [scheduler.count_threads(spare) for _ in range(1000)]
    assert 10 < counts.count(3) < 20  # about once a minute
    scheduler.crowd = 0.0
    assert [scheduler.count_threads(spare) for _ in range(70)][-8:] == [3] * 8
    assert torch.get_num_threads() == 3


@needs_avx
def test_the_number_of_threads_is_restored_after_an_error(monkeypatch):
    torch.set_num_threads(2)
    scheduler, spare = Scheduler(monkeypatch), SpareThreads()
    scheduler.crowd = 0.5
    scheduler.count_threads(spare)
    with pytest.raises(KeyboardInterrupt), spare():
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2


@pytest.mark.numeric
@needs_avx
@pytest.mark.parametrize("trunk", ["mobilenet_v2", "resnet50"])
def test_the_number_of_threads_changes_probabilities_by_rounding_at_most(trunk, monkeypatch):
    torch.manual_seed(0)
    model = MotionGuidedSTM(ModelConfig(trunk=trunk, key_dim=16, value_dim=32, decoder_dim=16)).eval()
    network = Network.from_model(prepare_for_inference(model), "float32")
    frames = np.random.default_rng(0).integers(0, 256, (4, 96, 144, 3), dtype=np.uint8)
    mask = np.zeros((96, 144), np.uint8)
    mask[20:60, 30:80], mask[50:80, 90:] = 1, 2
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        segmenter = Segmenter(network)
        segmenter.start(frames[0], mask)
        for frame in frames[1:]:
            segmenter.step(frame)
        found.append(segmenter.probabilities)
    # Equal to the bit on most CPUs; on an Intel Xeon with AMX two threads now and then round differently.
    np.testing.assert_allclose(found[1:], [found[0]] * 2, rtol=0, atol=1e-6)
