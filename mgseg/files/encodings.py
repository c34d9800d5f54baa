"""Video encodings: container, encoder and pixel format for each purpose."""

from dataclasses import dataclass
from pathlib import Path

import av
from av.codec.codec import UnknownCodecError

from mgseg.errors import OutputError

Encoders = tuple[tuple[str, dict[str, str]], ...]


@dataclass(frozen=True)
class Encoding:
    """How the pictures of a video file are stored.

    Args:
        container: FFmpeg's name of the file's format.
        encoders: names and options; the first that this build of FFmpeg has is taken.
        pixels: FFmpeg's name of the pixel format.
    """

    container: str
    encoders: Encoders
    pixels: str

    def find_encoder(self, path: Path) -> tuple[str, dict[str, str]]:
        """Return the encoder to use, and its options.

        Raises:
            OutputError: this build of FFmpeg has none of them.
        """
        found = next((encoder for encoder in self.encoders if has_encoder(encoder[0])), None)
        if found is None:
            names = " or ".join(name for name, _ in self.encoders)
            hint = "choose another kind of file, or install a build with this encoder: pip install --upgrade av"
            raise OutputError(f"cannot write {path}: this build of FFmpeg has no encoder {names}", hint)
        return found

    @property
    def is_deep(self) -> bool:
        """Whether a value has more than 8 bits."""
        return av.VideoFormat(self.pixels).components[0].bits > 8


def has_encoder(encoder: str) -> bool:
    """Whether this build of FFmpeg can write a codec."""
    try:
        av.Codec(encoder, "w")
    except UnknownCodecError:
        return False
    return True


# Quality: nearly indistinguishable from the source. Speed: a few ms a frame.
_H264: Encoders = (
    ("libx264", {"crf": "20", "preset": "veryfast"}),
    ("libopenh264", {"b": "6M"}),
    ("mpeg4", {"q": "3"}),
)
_VP9: Encoders = (("libvpx-vp9", {"crf": "30", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"}),)

VIEWING = {  # by suffix: videos for people to look at
    ".mp4": Encoding("mp4", _H264, "yuv420p"),
    ".mkv": Encoding("matroska", _H264, "yuv420p"),
    ".webm": Encoding("webm", _VP9, "yuv420p"),
}

_MATTE_VP9: Encoders = (("libvpx-vp9", {"crf": "16", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"}),)
_MATTE_H264: Encoders = (("libx264", {"crf": "12", "preset": "veryfast"}), *_H264[1:])
_FFV1: Encoders = (("ffv1", {"level": "3"}),)


def _prores(profile: str) -> Encoders:
    return (("prores_ks", {"profile": profile, "vendor": "apl0"}),)  # editors expect Apple's mark


ALPHA = {  # by suffix: colours with an alpha channel
    ".mov": Encoding("mov", _prores("4444"), "yuva444p10le"),
    ".webm": Encoding("webm", (("libvpx-vp9", {**_MATTE_VP9[0][1], "auto-alt-ref": "0"}),), "yuva420p"),
    ".mkv": Encoding("matroska", _FFV1, "bgra"),
}
GREY = {  # by suffix: one value a pixel
    ".mov": Encoding("mov", _prores("hq"), "yuv422p10le"),
    ".mp4": Encoding("mp4", _MATTE_H264, "yuv420p"),
    ".webm": Encoding("webm", _MATTE_VP9, "yuv420p"),
    ".mkv": Encoding("matroska", _FFV1, "gray16le"),
}
OPAQUE = {  # by suffix: colours, to be edited further
    ".mov": Encoding("mov", _prores("hq"), "yuv422p10le"),
    ".mp4": Encoding("mp4", _MATTE_H264, "yuv420p"),
    ".webm": Encoding("webm", _MATTE_VP9, "yuv420p"),
    ".mkv": Encoding("matroska", _FFV1, "bgr0"),
}
