"""Frame times: strictly increasing and as long as the number of frames requires, whatever the time stamps in a file."""

from fractions import Fraction

from av.container import InputContainer
from av.video.stream import VideoStream

_TS_DISCONT = 0x0200  # AVFMT_TS_DISCONT, the flag of containers whose clock may jump
_BACK = Fraction(1, 10)  # seconds; a stamp this far behind begins a new part of a joined file, as in ffmpeg
_AHEAD = Fraction(10)  # seconds; the same forward, in containers whose clocks may jump, as in ffmpeg


class Timeline:
    """Seconds since a stream's first time stamp.

    A stamp that repeats is put right behind the one before. Where stamps jump back, or go on repeating, the rest of
    the file is shifted so that it goes on where the last frame ends. So are jumps forward in an MPEG transport stream
    and its like; elsewhere a long pause is a long pause.

    Args:
        tick: seconds per unit of the time stamps.
        step: seconds that a frame lasts unless it says so itself.
        may_jump: whether the container's clock may jump.

    Attributes:
        inserted: seconds that were put in where stamps jumped, so far; negative where they jumped forward.
    """

    def __init__(self, tick: Fraction, step: Fraction, *, may_jump: bool) -> None:
        self._tick, self._step, self._may_jump = tick, step, may_jump
        self._first: Fraction | None = None  # of the file's seconds
        self.inserted = Fraction(0)
        self._last: Fraction | None = None
        self._repeats = False

    def __call__(self, stamp: int | None, duration: int | None = None) -> Fraction:
        """The next frame's time; `stamp` and `duration` in ticks, None if unknown."""
        following = Fraction(0) if self._last is None else self._last + self._step
        self._step = duration * self._tick if duration else self._step
        time = following
        if stamp is not None:
            seconds = stamp * self._tick
            if self._first is None:
                self._first = seconds - following
            time = self._place(seconds - self._first, following)
        self._last = time
        return time

    def _place(self, seconds: Fraction, following: Fraction) -> Fraction:
        time, last = seconds + self.inserted, self._last
        if last is None:
            return time
        repeats = time <= last
        jumps = time < last - _BACK or (self._may_jump and time > following + _AHEAD)
        if jumps or (repeats and self._repeats):
            self.inserted = following - seconds
            time = following
        elif repeats:
            time = last + self._tick
        self._repeats = repeats
        return time


def timeline(container: InputContainer, stream: VideoStream) -> Timeline:
    """The timeline of a video stream."""
    step = 1 / rate_of(stream)
    may_jump = bool(container.format.flags & _TS_DISCONT)
    return Timeline(Fraction(stream.time_base or step), step, may_jump=may_jump)


def rate_of(stream: VideoStream) -> Fraction:
    """Mean frames a second; 25 where the file does not say."""
    rate, highest = stream.average_rate or stream.guessed_rate, stream.base_rate
    if rate and highest:  # in raw DV the mean is the clock's rate
        rate = min(rate, highest)
    return Fraction(rate or highest or 25)
