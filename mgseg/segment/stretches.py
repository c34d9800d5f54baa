"""Stretches: parts of a clip between given masks. Each is segmented from the masks at its ends and the first one.

The last stretch has no mask at its end. It continues with the memory of the stretch before it instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mgseg.segment.given_masks import GivenMasks
from mgseg.segment.resume import GIVEN, ZERO


@dataclass(frozen=True)
class Stretch:
    """Frames that depend on the same given masks.

    Attributes:
        start: the first frame, which has a mask; None: whichever frame comes first.
        end: the frame after the last; it has a mask that states every object known until then. None: the clip's end.
        references: checksums of the masks that the stretch's masks are made from, by frame.
        known: ids of the objects at `end`.
        zero_is_background: see `GivenMasks`.
    """

    start: int | None
    end: int | None
    references: Mapping[int | None, str]
    known: tuple[int, ...] = ()
    zero_is_background: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What the masks' notes say of the given masks. Of one mask alone it does not matter what 0 means."""
        return {GIVEN: self.note, **({ZERO: self.zero_is_background} if len(self.references) > 1 else {})}

    @property
    def note(self) -> str:
        """Return the references in one line."""
        return ", ".join(f"{'first' if frame is None else frame}: {sum_}" for frame, sum_ in self.references.items())


def plan_stretches(given: GivenMasks, *, split: bool) -> list[Stretch]:
    """Split a clip at the masks that contain every object known so far; other masks only add to the prediction.

    With `zero_is_background` a mask states its whole frame, so a stretch does not depend on the stretch before it,
    unless it is the last one. Otherwise predictions stay where a mask says nothing, so all masks before a stretch are
    references of it.

    Args:
        given: the masks.
        split: False leaves the clip one stretch: it cannot be read again, so masks are known only when they come.
    """
    frames = sorted(given.objects, key=lambda number: -1 if number is None else number)
    if None in frames or not split:  # or the order is not known
        all_masks = {frame: given.checksums[frame] for frame in frames}
        return [Stretch(frames[0], None, all_masks, (), given.zero_is_background)]
    starts, known = [frames[0]], set(given.objects[frames[0]])
    known_at: dict[int | None, tuple[int, ...]] = {}
    for frame in frames[1:]:
        if known <= set(given.objects[frame]):
            starts.append(frame)
            known_at[frame] = tuple(sorted(known))
        known |= set(given.objects[frame])
    found = []
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], None], strict=True)):
        last, oldest = (frames[-1], starts[max(0, number - 1)]) if end is None else (end, start)
        begin = oldest if given.zero_is_background else frames[0]
        used = [f for f in frames if f == frames[0] or begin <= f <= last]  # type: ignore[operator]
        references = {f: given.checksums[f] for f in used}
        found.append(Stretch(start, end, references, known_at.get(end, ()), given.zero_is_background))
    return found
