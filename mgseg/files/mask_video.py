"""Masks from a video: the grey values of its frames, or their alpha."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mgseg.errors import InputError
from mgseg.files.conversion import ONE_THREAD
from mgseg.files.decoding import decode, open_video
from mgseg.files.upright import make_upright

VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".ts", ".mxf", ".nut"}
# FFmpeg's own decoders of these leave alpha out; those of libvpx give it.
_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_COLOUR = 24  # channels of a grey pixel differ by less after lossy coding
_FEW = 0.01  # share of the pixels that may be in colour all the same


def read_mattes(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Read a grey or alpha matte, frame by frame and upright.

    Alpha counts where the video has it, unless it is opaque everywhere and the picture is grey.

    Yields:
        uint8 (H, W), 255 for what belongs to the object.

    Raises:
        InputError: not a video, in colour without alpha, or (at the end) incomplete.
    """
    with open_video(path) as (container, stream):
        name = _DECODERS.get(stream.codec_context.name)
        has_alpha = stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1"
        frames = _decode_by(name, container, stream) if name and has_alpha else decode(path, container, stream)
        for number, raw in enumerate(frames):
            yield make_upright(_matte(path, number, raw), raw)


def _decode_by(name: str, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    try:
        context = Codec(name, "r").create("video")
    except UnknownCodecError as error:
        found = f"this build of FFmpeg has no decoder {name}, which reads alpha"
        raise InputError(found, "convert the mask video to a folder of PNGs") from error
    assert isinstance(context, VideoCodecContext)
    context.extradata = stream.codec_context.extradata
    for packet in container.demux(stream):
        try:
            yield from context.decode(packet if packet.size else None)
        except av.FFmpegError as error:
            raise InputError(f"a frame of {container.name} is damaged: {error}") from error


def _matte(path: Path, number: int, raw: VideoFrame) -> NDArray[np.uint8]:
    rgba = np.asarray(raw.to_ndarray(format="rgba", **ONE_THREAD), np.uint8)
    spread = np.ptp(rgba[:, :, :3].astype(np.int16), axis=2)
    is_grey = float((spread > _COLOUR).mean()) <= _FEW
    has_alpha = any(component.is_alpha for component in raw.format.components)
    if has_alpha and not (is_grey and rgba[:, :, 3].min() == 255):
        return rgba[:, :, 3].copy()
    if not is_grey:
        hint = "a mask video must be white on the object and black elsewhere, or have an alpha channel"
        raise InputError(f"frame {number} of the mask {path} is in colour, without alpha", hint)
    return rgba[:, :, 1].copy()
