"""Values that change over a run: schedules over progress 0..1, the learning rate, the clock."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A value over the progress of a run: piecewise constant, or a straight line from the first to the last.

    Attributes:
        points: (progress, value) in rising order of progress, the first at 0.
        linear: interpolate between the points instead of holding each value until the next.
    """

    points: tuple[tuple[float, float], ...]
    linear: bool = False

    def __post_init__(self) -> None:
        starts = [start for start, _ in self.points]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)) or starts[-1] > 1:
            raise ValueError(f"a schedule begins at 0 and rises to at most 1, got {starts}")
        if not all(math.isfinite(value) for value in self.values):
            raise ValueError(f"a schedule has numbers for values, got {self.values}")

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Read "256", "192,256@0.4,384@0.8" (steps) or "0.15..0.6" (a straight line).

        Raises:
            ValueError: the text is none of these.
        """
        if ".." in text:
            first, last = (float(part) for part in text.split(".."))
            return cls(((0.0, first), (1.0, last)), linear=True)
        first_value, *rest = text.split(",")
        pairs = [part.split("@") for part in rest]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError(f"write a schedule as VALUE,VALUE@PROGRESS,... or FIRST..LAST, got {text!r}")
        return cls(((0.0, float(first_value)), *((float(start), float(value)) for value, start in pairs)))

    def at(self, progress: float) -> float:
        """The value at `progress`, which is clipped to 0..1."""
        progress = min(max(progress, 0.0), 1.0)
        index = max(i for i, (start, _) in enumerate(self.points) if start <= progress)
        start, value = self.points[index]
        if not self.linear or index + 1 == len(self.points):
            return value
        end, target = self.points[index + 1]
        return value + (target - value) * (progress - start) / (end - start)

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(value for _, value in self.points)


def steps(first: float, *rest: tuple[float, float]) -> Schedule:
    """`first` from the beginning, then (value, from which progress) each."""
    return Schedule(((0.0, first), *((start, value) for value, start in rest)))


def rate_factor(progress: float, step: int, warmup_steps: int, cosine: bool) -> float:
    """What the learning rate is multiplied by: linear warm-up, then constant or a cosine down to one percent."""
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if not cosine:
        return warmup
    floor = 0.01  # the last steps still move a little
    return warmup * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


class Clock:
    """Progress 0..1 of a run by its steps, by the time it has taken, or by whichever is further.

    Args:
        num_steps: steps of the whole run, or None to end by time alone.
        minutes: time for the whole run, interruptions not counted, or None to end by steps alone.
        seconds_before: time that the run took before it was resumed.
        now: a monotonic clock in seconds.
    """

    def __init__(
        self,
        num_steps: int | None,
        minutes: float | None,
        seconds_before: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        if num_steps is None and minutes is None:
            raise ValueError("a run ends by steps, by minutes or by both")
        self.num_steps = num_steps
        self.minutes = minutes
        self.reserve = 0.0  # seconds to be left at the end
        self._now = now
        self._start = now() - seconds_before

    @property
    def seconds(self) -> float:
        """Time the run has taken, the part before an interruption included."""
        return self._now() - self._start

    def progress(self, step: int) -> float:
        """Progress before `step` (0-based); 1 or more means that the run is over."""
        by_steps = step / self.num_steps if self.num_steps else 0.0
        by_time = self.seconds / max(60 * self.minutes - self.reserve, 1.0) if self.minutes else 0.0
        return max(by_steps, by_time)
