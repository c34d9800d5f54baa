"""The sound of a clip in a video that is made from it: copied, or converted where the container cannot hold it."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av

from mgseg.files.decoding import choose_sound, choose_video
from mgseg.files.times import timeline

_PLAYED = {  # sound that players expect in a file of this kind; the rest is converted
    "mp4": {"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"},
    "mov": {"aac", "ac3", "alac", "eac3", "mp3", "pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le"},
    "webm": {"opus", "vorbis"},
}
_ENCODER = {"mp4": "aac", "mov": "aac", "matroska": "aac", "webm": "libopus"}
_RATE = 48000  # the one rate that both take

# What FFmpeg raises for a stream or packet that does not fit, as against a disk that is full.
UNFIT = (ValueError, NotImplementedError, LookupError, av.error.UndefinedError)


class _Placed(NamedTuple):
    """A packet of sound and its time in the written video, in seconds."""

    packet: Any
    time: Fraction


class CopiedSound:
    """Copies or converts the sound of a clip into an open output file, packet by packet.

    Where the clip's clock jumps, as it does where files were joined, the sound moves with the pictures. Sound that
    cannot be written is left out with a warning: it never costs the pictures.

    Args:
        path: the clip.
        target: the file that is written, before its first packet.
        origin: seconds in the clip's own time that become 0.
        warn: called with what is left out.
        converts: convert the sound, also where the target's kind of file can hold it as it is.
    """

    def __init__(
        self,
        path: Path,
        target: av.container.OutputContainer,
        origin: Fraction,
        warn: Callable[[str], None],
        *,
        converts: bool,
    ) -> None:
        self.path, self.target, self.origin, self.warn = path, target, origin, warn
        self.source = av.open(f"file:{path}")
        sound = choose_sound(self.source)
        assert sound is not None
        self.input = sound
        kind = target.format.name
        name = self.input.codec_context.codec.canonical_name
        self.copies = not converts and name in _PLAYED.get(kind, target.supported_codecs)
        self.output: Any
        if self.copies:
            self.output = target.add_stream_from_template(self.input)
        else:
            self.output = target.add_stream(_ENCODER[kind], rate=_RATE)
            self.output.layout = "stereo"
        self.samples: int | None = None
        self.frames: list[Any] = []  # of the newest packet
        self.last = -1
        self.placed = self._place()
        self.next = next(self.placed, None)

    def _place(self) -> Iterator[_Placed]:
        video = choose_video(self.path, self.source)
        times = timeline(self.source, video)
        try:
            packet: Any
            for packet in self.source.demux(video, self.input):
                if packet.pts is None or not packet.size:
                    continue
                if packet.stream.index == video.index:
                    times(packet.dts, packet.duration)
                    continue
                time = packet.pts * packet.time_base - self.origin + times.inserted
                if time >= 0:
                    yield _Placed(packet, time)
        except (av.FFmpegError, OSError):  # a cut clip has sound as far as it goes
            return

    def copy_until(self, time: Fraction) -> None:
        """Write the sound that begins before a time, seconds from the origin."""
        while self.next is not None and self.next.time < time:
            try:
                self._write(*self.next)
            except UNFIT as error:
                self.warn(f"the sound of {self.path} ends at {float(self.next.time):.1f} s: {error}")
                self.next = None
                return
            self.next = next(self.placed, None)

    def _write(self, packet: Any, time: Fraction) -> None:
        if self.copies:
            stamp = round(time / packet.time_base)
            if stamp > self.last:  # the sound of one part of a joined file may reach into the next
                self.last = packet.pts = packet.dts = stamp
                packet.stream = self.output
                self.target.mux(packet)
            return
        with suppress(av.FFmpegError):  # damaged: what was heard last stands in for it, and the rest keeps its time
            self.frames = packet.decode()
        for frame in self.frames:  # counted in samples: the source's ticks may be too coarse for the encoder
            if self.samples is None:
                self.samples = round(time * frame.sample_rate)
            frame.pts, frame.time_base = self.samples, Fraction(1, frame.sample_rate)
            self.samples += frame.samples
            self.target.mux(self.output.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds; warn if the target has no sound at all."""
        if self.last < 0 and self.samples is None:
            self.warn(f"the sound of {self.path} is left out: it does not overlap the pictures in time")
        if not self.copies:
            with suppress(*UNFIT):
                self.target.mux(self.output.encode(None))

    def close(self) -> None:
        """Close the clip."""
        self.source.close()
