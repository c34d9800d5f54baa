"""How the pictures of a video file are stored: container, encoder and pixel format, by what the file is for."""

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
        """The encoder that is taken, and its options.

        Raises:
            OutputError: this build of FFmpeg has none of them.
        """
        found = next((encoder for encoder in self.encoders if _is_there(encoder[0])), None)
        if found is None:
            names = " or ".join(name for name, _ in self.encoders)
            hint = "choose another kind of file, or install a build that has it: pip install --upgrade av"
            raise OutputError(f"cannot write {path}: this build of FFmpeg has no encoder {names}", hint)
        return found


def _is_there(encoder: str) -> bool:
    try:
        av.Codec(encoder, "w")
    except UnknownCodecError:
        return False
    return True


# Quality: hardly told from the source; speed: a few ms a frame.
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
