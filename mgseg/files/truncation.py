"""Whether a file was cut short, as far as the outer structure of its container tells. Frames are not looked at."""

import struct
from pathlib import Path
from typing import BinaryIO

_PACKETS = {188: 0, 192: 4, 204: 0}  # size of a transport stream's packets: where its sync byte is
_SYNC = b"\x47"


def is_cut(path: Path, container: str) -> bool:
    """Whether a file ends before its container does.

    Args:
        path: the file.
        container: names of its format, as FFmpeg has them ("mov,mp4,m4a").
    """
    names = set(container.split(","))
    with path.open("rb") as file:
        size = path.stat().st_size
        if "avi" in names:
            return _riff_end(file, size) > size + 1  # the last pad byte may be missing
        if "mov" in names:
            return _boxes_end(file, size) > size
        return "mpegts" in names and _ends_in_a_packet(file, size)


def _riff_end(file: BinaryIO, size: int) -> int:
    """Where the outermost chunks of an AVI file end; 0 if its writer never filled their lengths in."""
    end = 0
    while end < size:
        file.seek(end)
        header = file.read(8)
        if len(header) < 8 or header[:4] != b"RIFF":  # something was appended
            return end
        (length,) = struct.unpack("<4xI", header)
        if not length:
            return 0
        end += 8 + length + length % 2
    return end


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the outermost boxes of an MP4 or MOV file end; 0 if the last one reaches up to the end, however long."""
    end = 0
    while end < size:
        file.seek(end)
        header = file.read(16)
        if len(header) < 8 or not header[4:8].isalnum():  # something was appended
            return end
        (length,) = struct.unpack_from(">I", header)
        if length == 1 and len(header) == 16:
            (length,) = struct.unpack_from(">Q", header, 8)
        if length < 8:
            return 0
        end += length
    return end


def _ends_in_a_packet(file: BinaryIO, size: int) -> bool:
    """Whether a transport stream's last packet is not whole."""
    start = file.read(3 * max(_PACKETS))
    for packet, sync in _PACKETS.items():
        if all(start[at : at + 1] == _SYNC for at in range(sync, len(start), packet)):
            last = size // packet * packet
            file.seek(max(0, last - packet))
            end = file.read()
            return last < size and end[sync : sync + 1] == end[packet + sync : packet + sync + 1] == _SYNC
    return False
