"""Detection of incomplete files by the outer structure of the container, without decoding frames."""

import struct
from pathlib import Path
from typing import BinaryIO

_PACKETS = {188: 0, 192: 4, 204: 0}  # size of a transport stream's packets: where its sync byte is
_SYNC = b"\x47"
_BOXES = set(b"ftyp styp moov moof mdat free skip wide udta meta uuid sidx ssix mfra pnot prft emsg pdin".split())
_SEGMENT = b"\x18\x53\x80\x67"


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
        for name, find_end in _ENDS.items():
            if name in names:
                return find_end(file, size) > size
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
        if len(header) >= 8 and header[4:8] not in _BOXES:  # something was appended
            return end
        if len(header) < 8:
            return size + 1
        (length,) = struct.unpack_from(">I", header)
        if length == 1 and len(header) == 16:
            (length,) = struct.unpack_from(">Q", header, 8)
        if length < 8:
            return 0
        end += length
    return end


def _segment_end(file: BinaryIO, size: int) -> int:
    """Where a Matroska file's segment ends; 0 if its writer never filled the length in."""
    end = 0
    while end < size:
        file.seek(end)
        header = file.read(16)
        id_length = 9 - header[0].bit_length() if header else 9
        first = header[id_length : id_length + 1]
        if id_length > 4 or not first or not first[0]:
            return end
        length = 9 - first[0].bit_length()
        digits = int.from_bytes(header[id_length : id_length + length], "big") - (1 << 7 * length)
        if digits == (1 << 7 * length) - 1:  # all ones: unknown
            return 0
        end += id_length + length + digits
        if header[:4] == _SEGMENT:
            return end
    return end


def _tags_end(file: BinaryIO, size: int) -> int:
    """Where the last tag of an FLV file ends."""
    file.seek(5)
    end = int.from_bytes(file.read(4), "big") + 4
    while end < size:
        file.seek(end)
        header = file.read(4)
        if len(header) == 4 and header[0] & 0x1F not in (8, 9, 18):  # sound, pictures, script; else appended
            return end
        end += 11 + int.from_bytes(header[1:4], "big") + 4
    return end


def _blocks_end(file: BinaryIO, size: int) -> int:
    """Where the last block of a GIF ends; the byte that ends the file may be missing."""
    file.seek(0)
    header = file.read(13)
    if len(header) < 13:
        return 13
    file.seek(_colours(header[10]), 1)
    while (kind := file.read(1)) in (b"!", b","):
        if kind == b"!":
            file.read(1)
        else:
            descriptor = file.read(9)
            file.seek(_colours(descriptor[8]) + 1 if len(descriptor) == 9 else size, 1)
        length = 1
        while length and file.tell() < size:
            length = int.from_bytes(file.read(1))
            file.seek(length, 1)
        if length:
            return size + 1
    return file.tell()


def _colours(flags: int) -> int:
    """Bytes of a GIF's table of colours."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


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


_ENDS = {"mov": _boxes_end, "matroska": _segment_end, "flv": _tags_end, "gif": _blocks_end}
