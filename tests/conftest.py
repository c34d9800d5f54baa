"""Shared fixtures: small clips with exact masks made with PyAV, a tiny random model and its weights file."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from made_clips import set_display_matrix
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mgseg.model.network import MotionGuidedSTM
    from mgseg.network import Network
    from mgseg.outputs.table import Outputs
    from mgseg.segment.clip import SegmentResult

U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class MadeClip:
    """A clip as `make_clip` made it: what was drawn, before any codec.

    Args:
        path: the file, or the folder of pictures.
        frames: uint8 (T, H, W, 3) RGB.
        masks: uint8 (T, H, W), 1 a moving square, 2 a moving disc in front of it.
    """

    path: Path
    frames: U8
    masks: U8


def draw(num_frames: int, size: tuple[int, int]) -> tuple[U8, U8]:
    """Frames of a square and a disc that move over a gradient, and their exact masks."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    unit = min(size)
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    masks = np.zeros((num_frames, height, width), np.uint8)
    for t in range(num_frames):
        shift = 0.4 * width * t / max(1, num_frames - 1)
        square = (abs(y - 0.4 * height) < 0.2 * unit) & (abs(x - 0.25 * width - shift) < 0.2 * unit)
        disc = (y - 0.7 * height) ** 2 + (x - 0.75 * width + shift) ** 2 < (0.18 * unit) ** 2
        masks[t][square], masks[t][disc] = 1, 2
        frames[t] = np.stack([60 + 40 * y / height, 60 + 40 * x / width, np.full(size, 90.0)], -1)
        frames[t][square], frames[t][disc] = (220, 60, 40), (40, 200, 220)
    return frames, masks


def make_clip(
    path: Path,
    num_frames: int = 8,
    size: tuple[int, int] = (64, 96),
    *,
    codec: str = "libx264",
    rate: Fraction = Fraction(30000, 1001),
    times: list[int] | None = None,
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    options: dict[str, str] | None = None,
    audio: str | None = None,
) -> MadeClip:
    """Make a clip of moving shapes with exact masks.

    Args:
        path: a video file by its suffix, or a name without one for a folder of PNG pictures.
        num_frames: how many.
        size: (height, width); libx264 with yuv420p wants even ones.
        codec: video encoder.
        rate: frames a second.
        times: presentation time of each frame in milliseconds, for variable rates.
        pix_fmt: pixel format.
        rotation: degrees counterclockwise, of 90s, that a player shall turn the pictures; MP4 only.
        options: of the container, such as {"movflags": "faststart"}.
        audio: an audio encoder, for a tone as long as the clip.
    """
    frames, masks = draw(num_frames, size)
    if not path.suffix:
        from PIL import Image

        path.mkdir(parents=True)
        for index, frame in enumerate(frames):
            Image.fromarray(frame).save(path / f"{index:05d}.png")
        return MadeClip(path, frames, masks)
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.gop_size = 4
        stream.codec_context.time_base = Fraction(1, 1000) if times else 1 / rate
        sound: Any = container.add_stream(audio, rate=48000) if audio else None
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = times[index] if times else index
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            _add_tone(container, sound, float(num_frames / rate))
    if rotation:
        _rotate(path, rotation)
    return MadeClip(path, frames, masks)


def _rotate(path: Path, degrees: int) -> None:
    """Let players turn an MP4, counterclockwise; PyAV itself can do that only since version 18."""
    cos, sin = round(math.cos(math.radians(degrees))), round(math.sin(math.radians(degrees)))
    set_display_matrix(path, cos, -sin, sin, cos)


def _add_tone(container: Any, stream: Any, seconds: float) -> None:
    for start in range(0, int(seconds * 48000), 960):
        wave = np.sin(np.arange(start, start + 960) * (2 * np.pi * 440 / 48000)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


ClipMaker = Callable[..., MadeClip]


@pytest.fixture(name="make_clip", scope="session")
def _make_clip() -> ClipMaker:
    return make_clip


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> MadeClip:
    """Eight frames of 96x64 in an MP4. Read only: it serves the whole session."""
    return make_clip(tmp_path_factory.mktemp("clip") / "shapes.mp4")


@pytest.fixture(scope="session")
def tiny_model() -> "MotionGuidedSTM":
    """A network of the real structure with few channels and random, reproducible weights, on the CPU."""
    import torch

    from mgseg.model.network import ModelConfig, MotionGuidedSTM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ModelConfig(trunk="mobilenet_v2", key_dim=16, value_dim=32, decoder_dim=16)
        return MotionGuidedSTM(config).eval()


@pytest.fixture(scope="session")
def tiny_network(tiny_model: "MotionGuidedSTM") -> "Network":
    """The tiny model as what a Segmenter takes."""
    from mgseg.network import Network

    return Network.from_model(tiny_model)


@pytest.fixture
def segment_shapes(tiny_network: "Network", clip: MadeClip) -> "Callable[..., SegmentResult]":
    """Segments the shared clip with the tiny network: takes outputs, masks (by default the first) and more options."""
    from mgseg.segment.clip import segment_clip

    def segment(outputs: "Outputs", masks: Any = None, **more: Any) -> "SegmentResult":
        return segment_clip(clip.path, clip.masks[0] if masks is None else masks, outputs, tiny_network, **more)

    return segment


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of a folder, by its path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="session")
def tiny_weights(tiny_model: "MotionGuidedSTM", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a weights file."""
    from mgseg.weights import save_weights

    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    save_weights(path, tiny_model.config, tiny_model.state_dict())
    return path


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    """Tests run beside other work: more threads than one would only fight, unless OMP_NUM_THREADS asks for them."""
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
