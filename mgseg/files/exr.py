"""Writing OpenEXR pictures of one channel, as compositing programs read them."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mgseg.files.encodings import Encoding
from mgseg.files.whole_file import cannot_write, write_whole

EXR = Encoding("exr", (("exr", {"compression": "zip16", "format": "half"}),), "grayf32le")


def write_exr(path: Path, plane: NDArray[np.float32]) -> None:
    """Write float32 (H, W) as an OpenEXR file of 16-bit floats, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    name, options = EXR.find_encoder(path)
    context: Any = av.CodecContext.create(name, "w")
    context.height, context.width, context.pix_fmt = *plane.shape, EXR.pixels
    context.time_base, context.options = Fraction(1, 25), options  # no matter which time
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(plane), format=EXR.pixels)
    frame.pts = 0
    try:
        packets = [*context.encode(frame), *context.encode(None)]
    except av.FFmpegError as error:
        raise cannot_write(path, error) from error
    write_whole(path, b"".join(bytes(packet) for packet in packets))
