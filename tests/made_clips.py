"""Clips that cameras, phones and editors write but PyAV does not: made with PyAV, then edited byte by byte."""

import struct
from collections.abc import Iterable
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext

ONE, W = 1 << 16, 1 << 30  # 1 in the two kinds of fixed-point numbers of a display matrix
UPRIGHT = (ONE, 0, 0, 0, ONE, 0, 0, 0, W)


def set_display_matrix(path: Path, a: float, b: float, c: float, d: float) -> None:
    """Let an MP4's display matrix take x, y (y downward) to a*x + c*y, b*x + d*y."""
    a, b, c, d = (round(value * ONE) for value in (a, b, c, d))
    before, after = (struct.pack(">9i", *values) for values in (UPRIGHT, (a, b, 0, c, d, 0, 0, 0, W)))
    start, header = path.read_bytes().split(b"tkhd", 1)
    assert before in header[:120]
    path.write_bytes(start + b"tkhd" + header.replace(before, after, 1))


def hide_first_frames(path: Path, milliseconds: int, ticks: int) -> None:
    """Let an MP4's edit list begin later, by as many ticks of its stream, as a cut without encoding does."""
    start, rest = path.read_bytes().split(b"elst", 1)
    head, duration, media_time = struct.unpack_from(">8sIi", rest)
    edited = head + struct.pack(">Ii", duration - milliseconds, media_time + ticks)
    path.write_bytes(start + b"elst" + edited + rest[16:])


def boxes(data: bytes) -> list[bytes]:
    """Split the content of an MP4, or of one of its boxes, into boxes."""
    found = []
    while data:
        (length,) = struct.unpack_from(">I", data)
        found.append(data[:length])
        data = data[length:]
    return found


def box(kind: bytes, content: bytes) -> bytes:
    """An MP4 box."""
    return struct.pack(">I", 8 + len(content)) + kind + content


def put_cover_first(path: Path, jpeg: bytes) -> None:
    """Give an MP4 whose index is at its end a cover picture, which FFmpeg finds before the video."""
    picture = box(b"covr", box(b"data", struct.pack(">II", 13, 0) + jpeg))
    handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    cover = box(b"udta", box(b"meta", bytes(4) + handler + box(b"ilst", picture)))
    *others, moov = boxes(path.read_bytes())
    header, *rest = boxes(moov[8:])
    path.write_bytes(b"".join(others) + box(b"moov", header + cover + b"".join(rest)))


def copy_video(source: Path, target: Path) -> None:
    """Write the packets of a clip's video into another container, like `ffmpeg -an -c copy`."""
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream)
        name = "h264_mp4toannexb" if stream.codec_context.name == "h264" else "null"
        filtered = BitStreamFilterContext(name, stream, copy)
        for packet in given.demux(stream):
            for part in filtered.filter(packet if packet.size else None):
                part.stream = copy
                made.mux(part)


def join(target: Path, parts: Iterable[Path]) -> Path:
    """Write files one behind the other, like `cat`."""
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target
