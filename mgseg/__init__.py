"""mgseg: video object segmentation. From the masks of objects in one frame to their masks in every frame.

Public names load on first use, so that `import mgseg` and `mgseg --help` do not wait for torch.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"  # the one place: the package's metadata are made from it

if TYPE_CHECKING:
    from mgseg.errors import MgsegError
    from mgseg.files.masks import read_mask, write_mask
    from mgseg.files.matte import Alpha
    from mgseg.network import Network
    from mgseg.outputs.cut_outs import CutOuts
    from mgseg.outputs.matte import Matte
    from mgseg.outputs.table import Outputs
    from mgseg.segment.clip import Span, segment_clip
    from mgseg.segment.given_masks import MaskReading
    from mgseg.segment.segmenter import Segmenter, SegmenterOptions

__all__ = [
    "Alpha",
    "CutOuts",
    "MaskReading",
    "Matte",
    "MgsegError",
    "Network",
    "Outputs",
    "Segmenter",
    "SegmenterOptions",
    "Span",
    "__version__",
    "read_mask",
    "segment_clip",
    "write_mask",
]

_HOMES = {
    "Alpha": "mgseg.files.matte",
    "CutOuts": "mgseg.outputs.cut_outs",
    "Matte": "mgseg.outputs.matte",
    "MgsegError": "mgseg.errors",
    "Network": "mgseg.network",
    "Outputs": "mgseg.outputs.table",
    "Segmenter": "mgseg.segment.segmenter",
    "SegmenterOptions": "mgseg.segment.segmenter",
    "MaskReading": "mgseg.segment.given_masks",
    "Span": "mgseg.segment.clip",
    "read_mask": "mgseg.files.masks",
    "segment_clip": "mgseg.segment.clip",
    "write_mask": "mgseg.files.masks",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'mgseg' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
