"""Devices that are absent are named; what the C library is told about memory holds in the process that told it."""

import os
import subprocess
import sys

import pytest
import torch

from mgseg.device import denormals_as_zero, find_device, find_precision, has_int8
from mgseg.errors import DeviceError

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
from mgseg.device import denormals_as_zero
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
