"""mgseg: the masks of the objects in one frame become their masks in every frame of a video.

Public names load on first use, so that `import mgseg` and `mgseg --help` do not wait for torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mgseg.errors import MgsegError
    from mgseg.files.masks import read_mask, write_mask
    from mgseg.files.matte import Alpha
    from mgseg.network import Network
    from mgseg.outputs.cut_outs import CutOuts
    from mgseg.outputs.matte import Matte
    from mgseg.outputs.table import Outputs
    from mgseg.segment.clip import Span, segment_clip
    from mgseg.segment.segmenter import Segmenter, SegmenterOptions

    __version__: str

__all__ = [
    "Alpha",
    "CutOuts",
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
    "Span": "mgseg.segment.clip",
    "read_mask": "mgseg.files.masks",
    "segment_clip": "mgseg.segment.clip",
    "write_mask": "mgseg.files.masks",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            value: object = version("mgseg")
        except PackageNotFoundError:  # run from a checkout that was never installed
            value = "unknown"
    elif name in _HOMES:
        from importlib import import_module

        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'mgseg' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
