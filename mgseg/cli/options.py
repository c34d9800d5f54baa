"""Options shared by several commands."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgseg.cli import console
from mgseg.cli.threads import use_threads

if TYPE_CHECKING:
    from mgseg.network import Network
    from mgseg.segment.options import SegmenterOptions

_NETWORK = "Network"


class Precision(StrEnum):
    """Of the network's arithmetic."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    int8 = "int8"


def option(*names: str, panel: str, text: str, **more: Any) -> Any:
    """An option in a panel of the help page."""
    return typer.Option(*names, rich_help_panel=panel, help=text, **more)


Weights = Annotated[
    str,
    option("--weights", panel=_NETWORK, text="Weights of the network: a name from `mgseg weights list`, or a file."),
]
Threads = Annotated[
    int | None,
    option(
        "--threads",
        panel=_NETWORK,
        text="Number of CPU threads that compute.",
        min=1,
        callback=use_threads,
        show_default="one for each core",
    ),
]
Device = Annotated[
    str, option("--device", panel=_NETWORK, text="Where the network runs: auto, cpu, cuda, cuda:N or mps.")
]
Arithmetic = Annotated[
    Precision,
    option(
        "--precision",
        panel=_NETWORK,
        text="Numeric precision. auto: float16 on CUDA, float32 elsewhere; int8 is faster on a CPU and slightly less "
        "accurate.",
    ),
]
Size = Annotated[
    int,
    option(
        "--size",
        panel=_NETWORK,
        text="Shorter side in pixels at which the network sees a frame; 0: full size. Smaller is faster and less "
        "accurate.",
        min=0,
    ),
]
MemoryEvery = Annotated[
    int, option("--memory-every", panel=_NETWORK, text="Keep every Nth frame in the network's memory.", min=1)
]
MemorySize = Annotated[
    int,
    option(
        "--memory-size",
        panel=_NETWORK,
        text="Number of such frames kept at most; 0: no limit. Fewer are faster and need less memory.",
        min=0,
    ),
]
Flip = Annotated[bool, option("--flip", panel=_NETWORK, text="Average with the mirrored clip; takes twice the time.")]
Scales = Annotated[
    str,
    option(
        "--scales",
        panel=_NETWORK,
        text="Average the results at several sizes, as multiples of --size: 1,1.25. Each one takes its own time.",
    ),
]
ReferenceWeight = Annotated[
    float,
    option(
        "--reference-weight",
        panel=_NETWORK,
        text="Factor on the weight that frames with a given mask have when the network reads its memory.",
        min=0.001,
        max=1000.0,
    ),
]

Adapt = Annotated[
    int,
    option(
        "--adapt",
        panel=_NETWORK,
        text="Train a copy of the network on the first mask for so many steps, such as 50, before segmenting. "
        "Mostly better masks; takes half a minute or more on a CPU.",
        metavar="STEPS",
        min=0,
    ),
]


def segmenter_options(
    size: int, memory_every: int, memory_size: int, flip: bool, scales: str, reference_weight: float, adapt: int
) -> "SegmenterOptions":
    """Return the options of the Segmenter from those of the command line."""
    from mgseg.segment.options import SegmenterOptions

    try:
        numbers = tuple(float(part) for part in scales.split(","))
        return SegmenterOptions(size, memory_every, memory_size, flip, numbers, reference_weight, adapt)
    except ValueError as error:
        what = f"expected numbers from 0.25 to 4, separated by commas, such as 1,1.25; found {scales!r}"
        raise typer.BadParameter(what, param_hint="--scales") from error


def find_network(weights: str, device: str, precision: Precision) -> "Network":
    """Find the network, and say in one line which weights "auto" stands for on the device."""
    from mgseg.network import Network
    from mgseg.weights import AUTO

    network = Network(weights, device, precision.value)
    if weights == AUTO:
        console.message(f"weights: {network.name}, for {network.device.type}; others by --weights (mgseg weights list)")
    return network
