"""Conversion of decoded frames to upright 8-bit RGB: display matrix, HDR tone mapping, changing sizes."""

import math
import struct
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]

_HDR_TRANSFERS = {16, 18}  # PQ (SMPTE 2084) and HLG (ARIB STD-B67), as ISO 23091-2 numbers them


class Turn(NamedTuple):
    """Operations that make a decoded picture upright: transpose, then mirror, then rotate.

    Args:
        transposed: rows become columns.
        flip_x: left becomes right, after transposing.
        flip_y: top becomes bottom, after transposing.
        degrees: clockwise within the picture's own size; 0 unless the angle is no multiple of 90.
    """

    transposed: bool = False
    flip_x: bool = False
    flip_y: bool = False
    degrees: int = 0


# By degrees counterclockwise, as PyAV gives them; it reports no mirroring.
_TURNS = {
    90: Turn(transposed=True, flip_y=True),
    -90: Turn(transposed=True, flip_x=True),
    180: Turn(flip_x=True, flip_y=True),
    -180: Turn(flip_x=True, flip_y=True),
}


def turn_of(raw: VideoFrame) -> Turn:
    """Read the display matrix of a frame; an all-zero matrix, or none, means no turn.

    The matrix takes x, y (y downward) to a*x + c*y, b*x + d*y. Its scale and shift are ignored, as ffmpeg does.
    """
    try:
        side_data: Any = raw.side_data  # its stubs say that it iterates over names
    except ValueError:  # PyAV does not know a kind of side data that FFmpeg gives, such as EXIF
        return _TURNS.get(raw.rotation, Turn())
    matrix = next((bytes(data) for data in side_data if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return Turn()
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    across, down = math.hypot(a, c), math.hypot(b, d)
    if not across or not down:
        return Turn()
    degrees = round(math.degrees(math.atan2(b / down, a / across))) % 360
    if degrees % 180 == 0:
        return Turn(flip_x=a < 0, flip_y=d < 0)
    if degrees % 90 == 0:
        return Turn(transposed=True, flip_x=c < 0, flip_y=b < 0)
    return Turn(flip_y=a * d < b * c, degrees=degrees)


def is_hdr(stream: VideoStream) -> bool:
    """Whether a stream's values mean HDR light, which looks grey and dim when it is taken for BT.709."""
    return stream.codec_context.color_trc in _HDR_TRANSFERS


def to_rgb(raw: VideoFrame, *, hdr: bool = False) -> Picture:
    """Convert to an upright uint8 (H, W, 3) RGB array; `hdr`: tone-map to BT.709."""
    return make_upright(_tone_map(raw) if hdr else np.asarray(raw.to_ndarray(format="rgb24"), np.uint8), raw)


def make_upright(image: Picture, raw: VideoFrame) -> Picture:
    """Rotate decoded pixels, uint8 (H, W) or (H, W, 3), by the frame's display matrix; returns a contiguous array."""
    image, turn = np.ascontiguousarray(image), turn_of(raw)
    if not any(turn):
        return image
    image = image.swapaxes(0, 1) if turn.transposed else image
    image = np.ascontiguousarray(image[:: -1 if turn.flip_y else 1, :: -1 if turn.flip_x else 1])
    if turn.degrees:
        image = np.array(Image.fromarray(image).rotate(-turn.degrees, Image.Resampling.BILINEAR))
    return image


def fit(image: Picture, size: tuple[int, int], stretch: Fraction) -> Picture:
    """Scale a picture into a size, without distortion, between black bars.

    Args:
        image: uint8 (H, W, 3).
        size: (height, width) wanted.
        stretch: shape of the picture's pixels divided by that of the wanted ones, each width / height.
    """
    height, width = size
    across = float(image.shape[1] * stretch)
    scale = min(width / across, height / image.shape[0])
    inner = [max(1, round(side * scale)) for side in (across, image.shape[0])]
    if abs(inner[0] - width) <= 1 and abs(inner[1] - height) <= 1:  # no black bars for a rounding error
        inner = [width, height]
    scaled = Image.fromarray(image).resize((inner[0], inner[1]), Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (width, height))
    canvas.paste(scaled, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return np.array(canvas)


def _tone_map(raw: VideoFrame) -> Picture:
    graph = _tone_mapper(raw.width, raw.height, raw.format.name)
    graph.push(raw)
    mapped = graph.pull()
    assert isinstance(mapped, VideoFrame)
    return np.ascontiguousarray(mapped.to_ndarray(), np.uint8)


@lru_cache(maxsize=1)  # its first frame takes seconds: FFmpeg tabulates the mapping
def _tone_mapper(width: int, height: int, pix_fmt: str) -> Graph:
    """A graph that maps HDR frames to BT.709 RGB by libswscale's perceptual intent."""
    graph = Graph()
    bt709 = "out_transfer=bt709:out_primaries=bt709:out_color_matrix=bt709:intent=perceptual"
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat(pix_fmt), time_base=Fraction(1, 90000))
    nodes = [source, graph.add("scale", bt709), graph.add("format", "rgb24"), graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()
    return graph
