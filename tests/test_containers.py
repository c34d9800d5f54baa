"""What cameras, phones and editors write: every frame comes once, in order, at its time, and the overlay keeps step.

Sizes, depths, rotation and variable rates of further codecs are in test_video.py.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import draw

from mgseg.errors import InputError
from mgseg.files.video import probe, read_backward, read_frames
from mgseg.outputs.table import Outputs
from mgseg.segment.clip import segment_clip

RATE = Fraction(25)

# file: encoder, pixel format, options of the encoder
CLIPS: dict[str, tuple[str, str, dict[str, str]]] = {
    "open_gop.mp4": ("libx264", "yuv420p", {"x264-params": "open-gop=1:bframes=3:keyint=6:scenecut=0"}),
    "pyramid.mkv": ("libx264", "yuv420p", {"x264-params": "bframes=5:b-pyramid=normal:keyint=12"}),
    "interlaced.mkv": ("libx264", "yuv420p", {"x264-params": "interlaced=1:tff=1"}),
    "interlaced.ts": ("mpeg2video", "yuv420p", {"flags": "+ildct+ilme", "bf": "2", "g": "6"}),
    "hdr.mkv": ("libx265", "yuv420p10le", {"x265-params": "colorprim=bt2020:transfer=smpte2084:log-level=none"}),
    "motion.avi": ("mjpeg", "yuvj420p", {}),
    "b_frames.avi": ("mpeg4", "yuv420p", {"bf": "2"}),
    "alpha.webm": ("libvpx-vp9", "yuva420p", {}),
    "alpha.mov": ("qtrle", "argb", {}),
    "av1.mp4": ("libsvtav1", "yuv420p", {"preset": "10"}),
    "av1.webm": ("libaom-av1", "yuv420p", {"cpu-used": "8"}),
    "animation.gif": ("gif", "rgb8", {}),
    "animation.apng": ("apng", "rgb24", {}),
    "old.wmv": ("wmv2", "yuv420p", {}),
    "old.flv": ("flv", "yuv420p", {}),
    "dv_like.mov": ("mpeg2video", "yuv422p", {"bf": "0"}),
}


def make(path: Path, codec: str, pix_fmt: str, options: dict[str, str], audio: str | None = None) -> Any:
    if codec not in av.codecs_available:
        pytest.skip(f"this build of FFmpeg has no {codec}")
    frames, masks = draw(17, (64, 96))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width, stream.pix_fmt = 64, 96, pix_fmt
        sound: Any = container.add_stream(audio, rate=48000) if audio else None
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
        if sound:
            for start in range(0, 48000 * 17 // 25, 960):
                silence = np.zeros((2, 960), np.float32)
                frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="stereo")
                frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return frames, masks


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_of_a_container_comes_once_in_order_and_at_its_time(tmp_path: Path, name: str) -> None:
    frames, _ = make(tmp_path / name, *CLIPS[name])
    info = probe(tmp_path / name)
    found = list(read_frames(tmp_path / name))
    assert [frame.index for frame in found] == list(range(17))
    assert info.num_frames in (17, None) or not info.is_counted
    for frame in found:
        assert abs(frame.time - frame.index / RATE) <= Fraction(1, 1000)
    errors = [[abs(frame.image.astype(int) - drawn).mean() for drawn in frames] for frame in found]
    assert np.argmin(errors, axis=1).tolist() == list(range(17))
    backward = list(read_backward(tmp_path / name, 0, 17))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(backward, reversed(found), strict=True))


def test_a_cut_stream_gives_all_its_whole_frames_and_is_known_to_be_cut(tmp_path: Path) -> None:
    make(tmp_path / "whole.flv", "libx264", "yuv420p", {"g": "30", "bf": "0"})
    with av.open(str(tmp_path / "whole.flv")) as container:
        ends = [(packet.pos or 0) + packet.size for packet in container.demux(video=0) if packet.size]
    (tmp_path / "cut.flv").write_bytes((tmp_path / "whole.flv").read_bytes()[: ends[9] - 5])
    frames = read_frames(tmp_path / "cut.flv")
    assert [next(frames).index for _ in range(9)] == list(range(9))
    with pytest.raises(InputError, match="cut or damaged"):
        next(frames)


def test_a_sequence_with_gaps_is_read_without_them(tmp_path: Path, make_clip: Any) -> None:
    folder = make_clip(tmp_path / "pictures", num_frames=6).path
    (folder / "00002.png").unlink()
    (folder / "00004.png").unlink()
    found = list(read_frames(folder))
    assert [frame.name for frame in found] == ["00000", "00001", "00003", "00005"]
    assert [frame.index for frame in found] == [0, 1, 2, 3]


def first_sound(path: Path) -> tuple[Fraction, Fraction]:
    """Seconds of the first sound and of the first picture, in the file's own time."""
    with av.open(str(path)) as container:
        audio, video = container.streams.audio[0], container.streams.video[0]
        times: dict[int, Fraction] = {}
        for packet in container.demux(audio, video):
            if packet.pts is not None:
                time = packet.pts * Fraction(packet.time_base)
                times[packet.stream.index] = min(time, times.get(packet.stream.index, time))
        return times[audio.index], times[video.index]


@pytest.mark.parametrize(("name", "audio"), [("camera.ts", "mp2"), ("camera.mp4", "aac"), ("camera.mkv", "flac")])
def test_the_overlay_plays_in_step_with_the_sound(tmp_path: Path, tiny_network: Any, name: str, audio: str) -> None:
    options = {"x264-params": "open-gop=1:bframes=3:keyint=6"}
    _, masks = make(tmp_path / name, "libx264", "yuv420p", options, audio)
    overlay = tmp_path / "overlay.mp4"
    segment_clip(tmp_path / name, masks[0], Outputs(overlay=overlay), network=tiny_network)
    ours, theirs = first_sound(overlay), first_sound(tmp_path / name)
    assert abs((ours[0] - ours[1]) - (theirs[0] - theirs[1])) < Fraction(3, 100)  # a packet of sound is about so long
    times = [frame.time for frame in read_frames(overlay)]
    assert times == [frame.time for frame in read_frames(tmp_path / name)]
