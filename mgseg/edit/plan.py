"""What a run has to do: which frames are segmented, from which given mask, in which direction."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Direction = Literal["both", "forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = ("both", "forward", "backward")


@dataclass(frozen=True)
class Stretch:
    """Neighbouring frames that are segmented from one given mask.

    Attributes:
        origin: frame of the given mask.
        last: the last frame that is segmented; before `origin` where the stretch runs backward.
        other: frame of the given mask on the far side, which bounds the stretch; None at the clip's ends.
    """

    origin: int
    last: int
    other: int | None

    @property
    def step(self) -> int:
        """1 forward, -1 backward."""
        return 1 if self.last > self.origin else -1

    @property
    def frames(self) -> range:
        """The frames in the order in which they are segmented."""
        return range(self.origin + self.step, self.last + self.step, self.step)


def plan(given: Iterable[int], num_frames: int, direction: Direction, only_gap_of: int | None = None) -> list[Stretch]:
    """Plan a run.

    Between two given masks with "both", each half is segmented from the mask that is nearer.

    Args:
        given: frames with a given mask.
        num_frames: of the clip.
        direction: which way to go from the given masks.
        only_gap_of: a frame: only the gap between given masks that it lies in (or, if it has a given mask, the gaps
            that begin there in the direction wanted).
    """
    marks = sorted(given)
    stretches = []
    for left, right in zip([None, *marks], [*marks, None], strict=True):
        first = 0 if left is None else left + 1
        stop = num_frames if right is None else right
        if only_gap_of is not None and not (first - 1 <= only_gap_of <= stop):
            continue
        middle = (first + stop) // 2  # the first frame that goes with the right mask
        forward = left is not None and direction != "backward"
        backward = right is not None and direction != "forward"
        if left is not None and forward and (end := middle if backward else stop) > first:
            stretches.append(Stretch(left, end - 1, right))
        if right is not None and backward and (begin := middle if forward else first) < stop:
            stretches.append(Stretch(right, begin, left))
    return stretches
