"""Which stream is the clip, which way up it is, when its frames are shown, and where it breaks off."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from made_clips import copy_video, hide_first_frames, join, put_cover_first, set_display_matrix
from PIL import Image

from mgseg.errors import InputError
from mgseg.files.times import Timeline, rate_of
from mgseg.files.truncation import is_cut
from mgseg.files.upright import fit
from mgseg.files.video import open_clip, probe, read_backward, read_frames
from mgseg.files.video_writer import AnimationWriter, VideoWriter
from mgseg.outputs.table import Outputs
from mgseg.segment.clip import SegmentResult, segment_clip

Maker = Callable[..., Any]
RATE = Fraction(25)


@pytest.fixture(name="segment")
def _segment(tiny_network: Any) -> Callable[..., SegmentResult]:
    def segment(clip: Path, mask: Any, **outputs: Path) -> SegmentResult:
        return segment_clip(clip, mask, Outputs(**outputs), tiny_network)

    return segment


def difference(image: Any, expected: Any) -> float:
    return float(abs(image.astype(int) - expected).mean())


def times_of(clip: Path) -> list[Fraction]:
    return [frame.time for frame in read_frames(clip)]


# Which stream is the clip


def test_a_cover_picture_is_not_the_clip(make_clip: Maker, tmp_path: Path) -> None:
    made = make_clip(tmp_path / "a.mp4")
    jpeg = io.BytesIO()
    Image.new("RGB", (600, 600), "red").save(jpeg, "JPEG")
    put_cover_first(made.path, jpeg.getvalue())
    with av.open(str(made.path)) as container:
        assert [stream.codec_context.name for stream in container.streams.video] == ["mjpeg", "h264"]
    assert probe(made.path).width == 96
    assert len(list(read_frames(made.path))) == 8


@pytest.mark.parametrize(("default", "expected"), [(None, 64), (0, 32), (1, 64), (2, 48)])
def test_the_clip_is_the_default_stream_or_else_the_largest(tmp_path: Path, default: int | None, expected: int) -> None:
    path = tmp_path / "several.mkv"
    with av.open(str(path), "w") as container:
        for number, side in enumerate((32, 64, 48)):
            stream: Any = container.add_stream("ffv1", rate=RATE)
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
            stream.disposition = av.stream.Disposition(int(number == default))
        for stream in container.streams.video:
            frame = av.VideoFrame(stream.width, stream.height, "yuv420p")
            container.mux([*stream.encode(frame), *stream.encode(None)])
    data = bytearray(path.read_bytes())
    if default is None:  # the writer marks the first one where none is marked
        while (at := data.find(b"\x88\x81\x01")) >= 0:
            data[at + 2] = 0
        path.write_bytes(data)
    assert probe(path).width == expected


# Which way up


MATRICES: dict[str, tuple[tuple[float, float, float, float], Callable[[Any], Any]]] = {
    "zero": ((0, 0, 0, 0), lambda x: x),
    "mirrored": ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
    "upside down and mirrored": ((1, 0, 0, -1), lambda x: x[::-1]),
    "transposed": ((0, 1, 1, 0), lambda x: x.swapaxes(0, 1)),
    "transposed the other way": ((0, -1, -1, 0), lambda x: x[::-1, ::-1].swapaxes(0, 1)),
    "clockwise": ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),
    "counterclockwise": ((0, -1, 1, 0), lambda x: np.rot90(x)),
    "half a turn": ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
    "twice as large": ((2, 0, 0, 2), lambda x: x),
    "30 degrees": (
        (0.8660, 0.5, -0.5, 0.8660),
        lambda x: np.array(Image.fromarray(x).rotate(-30, Image.Resampling.BILINEAR)),
    ),
}


@pytest.mark.parametrize("name", MATRICES)
def test_the_whole_display_matrix_counts(make_clip: Maker, tmp_path: Path, name: str) -> None:
    made = make_clip(tmp_path / "a.mp4")
    plain = next(read_frames(made.path)).image
    matrix, turn = MATRICES[name]
    set_display_matrix(made.path, *matrix)
    info = probe(made.path)
    frame = next(read_frames(made.path)).image
    assert (info.height, info.width) == frame.shape[:2]
    assert np.array_equal(frame, turn(plain))
    assert info.is_turned == (name not in ("zero", "twice as large"))


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_exif_data_of_a_picture_that_is_a_clip_turn_it(clip: Any, tmp_path: Path, orientation: int, turns: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    for name in ("a.jpg", "a.webp", "a.tiff"):
        Image.fromarray(clip.frames[0]).save(tmp_path / name, exif=exif)
        info, frames = probe(tmp_path / name), list(read_frames(tmp_path / name))
        assert len(frames) == 1
        assert (info.height, info.width) == frames[0].image.shape[:2]
        assert difference(frames[0].image, np.rot90(clip.frames[0], turns)) < 12, name


# When frames are shown


def test_joined_files_go_on_where_the_first_one_ends(make_clip: Maker, tmp_path: Path, segment: Any) -> None:
    made = make_clip(tmp_path / "a.ts", rate=RATE, audio="mp2")
    joined = join(tmp_path / "joined.ts", [made.path] * 3)
    assert times_of(joined) == [number / RATE for number in range(24)]
    assert [frame.index for frame in read_frames(joined, end=Fraction(1, 2))] == list(range(13))
    forward = list(read_frames(joined))
    for frame in read_backward(joined, 0, 24):
        assert np.array_equal(frame.image, forward[frame.index].image)
    result = segment(joined, made.masks[0], overlay=tmp_path / "o.mp4")
    assert result.num_frames == 24
    assert times_of(tmp_path / "o.mp4") == times_of(joined)
    with av.open(str(tmp_path / "o.mp4")) as container:
        sound: list[Any] = [packet for packet in container.demux(audio=0) if packet.pts is not None]
    assert abs(float(sound[-1].pts * sound[-1].time_base) - 24 / 25) < 0.1
    gaps = np.diff([float(packet.pts * packet.time_base) for packet in sound])
    assert gaps.max() < 0.1


@pytest.mark.parametrize(
    ("stamps", "expected", "may_jump"),
    [
        ([7, 8, 9, 10], [0, 1, 2, 3], False),
        ([0, 1, 2, 3, 0, 1, 2], [0, 1, 2, 3, 4, 5, 6], False),  # joined
        ([0, 1, 1, 3, 4], [0, 1, 1.1, 3, 4], False),  # one stamp repeats
        ([5, 5, 5, 5, 5], [0, 0.1, 1.1, 2.1, 3.1], False),  # all do
        ([0, 1, 100, 101], [0, 1, 100, 101], False),  # a pause
        ([0, 1, 100, 101], [0, 1, 2, 3], True),  # a clock that jumps
        ([0, 1, 9, 10], [0, 1, 9, 10], True),
        ([None, None, 40, None, 42], [0, 1, 2, 3, 4], False),
        ([-3, -2, -1], [0, 1, 2], True),
    ],
)
def test_times_grow_and_last_as_long_as_the_frames(
    stamps: list[int | None], expected: list[float], may_jump: bool
) -> None:
    ticks = [stamp if stamp is None else stamp * 10 for stamp in stamps]
    timeline = Timeline(Fraction(1, 10), Fraction(1), may_jump=may_jump)
    assert [float(timeline(tick)) for tick in ticks] == expected


def test_empty_chunks_of_an_avi_are_no_missing_frames(make_clip: Maker, tmp_path: Path) -> None:
    made = make_clip(tmp_path / "a.mp4", rate=RATE)
    copy_video(made.path, tmp_path / "a.avi")
    info = probe(tmp_path / "a.avi")
    assert not info.is_counted
    frames = list(read_frames(tmp_path / "a.avi"))
    errors = [[difference(frame.image, drawn) for drawn in made.frames] for frame in frames]
    assert np.argmin(errors, axis=1).tolist() == list(range(8))
    assert [frame.time for frame in frames] == [number / RATE for number in range(8)]


@pytest.mark.parametrize("name", ["a.asf", "a.mxf"])
def test_containers_without_times_of_showing_have_even_times(make_clip: Maker, tmp_path: Path, name: str) -> None:
    made = make_clip(tmp_path / name, rate=RATE, num_frames=12)
    times = times_of(made.path)
    assert [round(float(time), 3) for time in times] == [number / 25 for number in range(12)]


def test_empty_packets_that_show_a_frame_once_more_are_no_damage(tmp_path: Path, clip: Any) -> None:
    if "libtheora" not in av.codecs_available:
        pytest.skip("this build of FFmpeg has no libtheora")
    path = tmp_path / "a.ogv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libtheora", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for image in (clip.frames[0], clip.frames[0], clip.frames[4], clip.frames[4], clip.frames[7]):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    times = times_of(path)
    assert times[-1] == 4 / RATE
    assert 3 <= len(times) <= 5


def test_a_clip_that_begins_late_is_not_taken_for_one_that_lacks_its_begin(make_clip: Maker, tmp_path: Path) -> None:
    made = make_clip(tmp_path / "a.mkv", times=[3_600_000 + 40 * n for n in range(8)], rate=RATE)
    info = probe(made.path)
    assert info.num_frames in (None, 8)
    assert times_of(made.path) == [number / RATE for number in range(8)]


def test_frames_that_an_edit_list_hides_are_not_counted(make_clip: Maker, tmp_path: Path) -> None:
    made = make_clip(tmp_path / "a.mp4", rate=RATE)
    with av.open(str(made.path)) as container:
        ticks = 3 / RATE / container.streams.video[0].time_base
    hide_first_frames(made.path, 120, int(ticks))
    frames = list(read_frames(made.path))
    assert len(frames) == 5
    assert difference(frames[0].image, made.frames[3]) < 6
    info = probe(made.path)
    assert info.num_frames == 5 or not info.is_counted


def test_the_mean_rate_is_no_higher_than_the_highest() -> None:
    rates = {"average_rate": Fraction(60000), "guessed_rate": Fraction(25), "base_rate": Fraction(25)}
    assert rate_of(SimpleNamespace(**rates)) == 25  # type: ignore[arg-type]
    assert rate_of(SimpleNamespace(**rates | {"average_rate": Fraction(7)})) == 7  # type: ignore[arg-type]
    assert rate_of(SimpleNamespace(**dict.fromkeys(rates))) == 25  # type: ignore[arg-type]


def test_sound_that_is_never_heard_with_the_pictures_is_told(make_clip: Maker, tmp_path: Path) -> None:
    made = make_clip(tmp_path / "a.mkv", audio="aac")
    told: list[str] = []
    for suffix in (".mp4", ".webm"):
        with VideoWriter(
            tmp_path / f"o{suffix}",
            (64, 96),
            RATE,
            1 / RATE,
            sound=made.path,
            sound_from=Fraction(99),
            warn=told.append,
        ) as writer:
            writer.write(made.frames[0], Fraction(0))
        assert len(list(read_frames(tmp_path / f"o{suffix}"))) == 1
    assert len(told) == 2
    assert "the sound of" in told[0]


def test_sound_that_a_container_takes_only_in_part_is_converted(tmp_path: Path, clip: Any) -> None:
    source = tmp_path / "slow.mkv"  # MP3 at 8 kHz, which MP4 cannot hold
    with av.open(str(source), "w") as container:
        pictures: Any = container.add_stream("libx264", rate=RATE)
        pictures.width, pictures.height, pictures.pix_fmt = 96, 64, "yuv420p"
        sound: Any = container.add_stream("libmp3lame", rate=8000)
        container.mux(pictures.encode(av.VideoFrame.from_ndarray(clip.frames[0], format="rgb24")))
        container.mux(pictures.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 2304), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        container.mux([*sound.encode(frame), *sound.encode(None)])
    told: list[str] = []
    target = tmp_path / "o.mp4"
    with VideoWriter(target, (64, 96), RATE, 1 / RATE, sound=source, warn=told.append) as writer:
        for number in range(6):
            writer.write(clip.frames[number], number / RATE)
    assert not told
    with av.open(str(target)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        assert sum(1 for packet in container.demux(audio=0) if packet.size) > 3


def test_a_size_that_changes_is_told_and_frames_keep_their_shape(
    make_clip: Maker, tmp_path: Path, segment: Any
) -> None:
    parts = [make_clip(tmp_path / f"{size[0]}.ts", size=size, rate=RATE) for size in ((64, 96), (96, 64))]
    joined = join(tmp_path / "joined.ts", [part.path for part in parts])
    frames = list(read_frames(joined))
    assert {frame.image.shape for frame in frames} == {(64, 96, 3)}
    assert [frame.own_size for frame in frames] == [None] * 8 + [(96, 64)] * 8
    last = frames[-1].image
    assert not last[:, :26].any()  # bars, and between them the picture, of two thirds of its size
    inner = np.array(Image.fromarray(parts[1].frames[-1]).resize((43, 64), Image.Resampling.BILINEAR))
    assert difference(last[:, 26:69], inner) < 8
    result = segment(joined, parts[0].masks[0], masks=tmp_path / "masks")
    assert result.num_frames == 16
    assert [text for text in result.warnings if "from frame 8 on, frames are 64x96" in text] == list(result.warnings)
    assert len(result.warnings) == 1


def test_a_frame_of_other_pixels_fills_the_same_picture() -> None:
    wide = np.full((576, 544, 3), 200, np.uint8)  # television in narrow and in wide pixels: the same shape on a screen
    assert fit(wide, (576, 720), Fraction(720, 544)).all()


# What is no plain video


def test_an_animation_of_one_frame_is_written(clip: Any, tmp_path: Path) -> None:
    for suffix in (".gif", ".webp"):
        with AnimationWriter(tmp_path / f"o{suffix}", RATE) as writer:
            writer.write(clip.frames[0], Fraction(0))
        assert difference(next(read_frames(tmp_path / f"o{suffix}")).image, clip.frames[0]) < 12


def test_an_animated_webp_is_a_clip(clip: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    with AnimationWriter(path, RATE) as writer:
        for frame, time in zip(clip.frames, (0, 40, 80, 200, 240, 280, 320, 360), strict=True):
            writer.write(frame, Fraction(time, 1000))
    with open_clip(path) as source:
        assert (source.info.num_frames, source.info.width, source.info.height) == (8, 96, 64)
        frames = list(source.frames())
        assert [frame.time * 1000 for frame in frames] == [0, 40, 80, 200, 240, 280, 320, 360]
        assert [frame.index for frame in source.frames(Fraction(8, 100), 6)] == [2, 3, 4, 5]
        backward = list(source.backward(0, 8))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(backward, reversed(frames), strict=True))
    assert max(difference(frame.image, drawn) for frame, drawn in zip(frames, clip.frames, strict=True)) < 8
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(InputError, match=r"a\.webp"):
        list(read_frames(path))


def test_frames_that_decode_otherwise_after_a_seek_are_decoded_from_the_start(clip: Any, tmp_path: Path) -> None:
    path = tmp_path / "palette.avi"  # its palette comes with the first packet only
    pictures = [Image.fromarray(frame).quantize(64) for frame in clip.frames]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("rawvideo", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "pal8"
        for picture in pictures:
            colours = np.array(pictures[0].getpalette(), np.uint8).reshape(-1, 3)
            table = np.full((256, 4), 255, np.uint8)
            table[: len(colours), 1:] = colours
            frame = av.VideoFrame.from_ndarray((np.asarray(picture), table), format="pal8")  # type: ignore[arg-type]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    forward = list(read_frames(path))
    assert all(frame.image.any() for frame in forward)
    backward = list(read_backward(path, 0, 6))
    assert all(np.array_equal(frame.image, forward[frame.index].image) for frame in backward)


# Where it breaks off


def test_a_transport_stream_that_ends_inside_a_packet_is_cut(make_clip: Maker, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.ts").path
    data = path.read_bytes()
    assert not is_cut(path, "mpegts")
    path.write_bytes(data[: len(data) // 2 // 188 * 188 + 100])
    assert is_cut(path, "mpegts")
    with pytest.raises(InputError, match=r"cut or damaged: \d frames could be read"):
        list(read_frames(path))
    path.write_bytes(data + b"appended")
    assert not is_cut(path, "mpegts")
    assert len(list(read_frames(path))) == 8


CONTAINERS = {
    "a.avi": ("libx264", {}),
    "a.mkv": ("libx264", {}),
    "a.webm": ("libvpx-vp9", {}),
    "a.flv": ("libx264", {}),
    "a.ts": ("libx264", {}),
    "a.gif": ("gif", {}),
    "fast.mp4": ("libx264", {"movflags": "faststart"}),
    "fragments.mp4": ("libx264", {"movflags": "frag_keyframe+empty_moov"}),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_wherever_a_file_is_cut_that_is_told(make_clip: Maker, tmp_path: Path, name: str) -> None:
    codec, options = CONTAINERS[name]
    pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
    path = make_clip(tmp_path / name, num_frames=12, codec=codec, options=options, pix_fmt=pix_fmt, rate=RATE).path
    data = path.read_bytes()
    for appended in (b"", bytes(50), b"appended"):
        path.write_bytes(data + appended)
        assert len(list(read_frames(path))) == 12

    def is_told(length: int) -> bool:
        path.write_bytes(data[:length])
        try:
            list(read_frames(path))
        except InputError:
            return True
        return False

    for place in range(1, 40):
        length = len(data) * place // 40 | 1  # odd, and so no end of a packet of 188
        assert is_told(length) or is_told(length - 2)  # a cut right between two chunks leaves no trace


@pytest.mark.parametrize("name", ["a.avi", "a.mp4"])
def test_a_file_that_ends_before_its_outermost_chunk_is_cut(make_clip: Maker, tmp_path: Path, name: str) -> None:
    options = {"movflags": "frag_keyframe+empty_moov"} if name == "a.mp4" else {}
    path = make_clip(tmp_path / name, num_frames=40, size=(128, 192), codec="mpeg4", options=options).path
    data = path.read_bytes()
    kind = "avi" if name == "a.avi" else "mov,mp4"
    assert not is_cut(path, kind)
    path.write_bytes(data + bytes(100))
    assert not is_cut(path, kind)
    path.write_bytes(data[: len(data) * 2 // 3])
    assert is_cut(path, kind)
    with pytest.raises(InputError, match="cut or damaged"):
        list(read_frames(path))


# What colours mean


@pytest.mark.parametrize(("name", "transfer"), [("smpte2084", 16), ("arib-std-b67", 18)])
def test_hdr_is_mapped_to_what_an_overlay_says_it_is(tmp_path: Path, segment: Any, name: str, transfer: int) -> None:
    if "libx265" not in av.codecs_available:
        pytest.skip("this build of FFmpeg has no libx265")
    path = tmp_path / "hdr.mkv"
    # B-frames delay the first packet: the dts of a clip shorter than the delay is uninitialised memory.
    tags = f"colorprim=bt2020:transfer={name}:colormatrix=bt2020nc:bframes=0:log-level=none"
    ramp = np.linspace(64, 940, 64).astype(np.uint16)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx265", rate=RATE, options={"x265-params": tags, "crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        frame = av.VideoFrame(64, 48, "yuv420p10le")
        for plane, values in zip(
            frame.planes, (np.tile(ramp, (48, 1)), *[np.full((24, 32), 512, np.uint16)] * 2), strict=True
        ):
            rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
            rows[:, : values.shape[1]] = values
            plane.update(rows.tobytes())
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with open_clip(path) as clip:
        assert clip.info.is_hdr
        grey = next(clip.frames()).image[24].astype(int)
    assert (np.ptp(grey, axis=1) <= 4).all()
    assert (np.diff(grey[:, 1]) >= -3).all()
    assert abs(grey[0, 1]) < 12
    assert abs(grey[-1, 1] - 255) < 25
    # Diffuse white, by BT.2408: 58 % of a PQ signal (203 cd/m2), 75 % of an HLG one, is bright but not clipped.
    white = grey[round({16: 0.58, 18: 0.75}[transfer] * 63), 1]
    assert 130 < white < 245
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 10:30] = 1
    result = segment(path, mask, overlay=tmp_path / "o.mp4")
    assert any("HDR" in text for text in result.warnings)
