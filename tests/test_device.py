"""Devices that are absent are named; what the C library is told about memory holds in the process that told it."""

import subprocess
import sys

import pytest

from mgseg.device import find_device
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_freed_memory_is_used_again_instead_of_fetched_anew():
    found = subprocess.run([sys.executable, "-c", COUNT_PAGE_FAULTS], capture_output=True, text=True, check=True)
    before, after = map(int, found.stdout.split())
    assert after < before / 10
