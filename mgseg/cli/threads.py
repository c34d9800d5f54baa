"""CPU threads of the process. torch reads these variables when it is imported, so they are set before.

Only the command does this: a library must not change the process of the program that uses it.
"""

import os
import sys

# How often an idle thread checks for work before it sleeps. GNU's OpenMP, which torch uses on Linux, checks 300,000
# times, which takes milliseconds. A tenth of that still bridges the gap between two layers, and leaves more of a busy
# CPU to threads with work. With fewer checks, threads sleep between layers, and waking them takes longer. docs/speed.md
# has figures. `device.SpareThreads` has the larger effect.
_SPINS = "30000"


def sleep_soon() -> None:
    """Make idle threads sleep sooner, so that other programs get the CPU, unless the environment sets how they wait."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = _SPINS


def use_threads(count: int | None) -> int | None:
    """Compute with `count` threads, here and in the processes that this one starts; None leaves it to torch."""
    if count is None:
        return None
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    return count
