"""Options of the Segmenter."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SegmenterOptions:
    """How a clip is segmented.

    Attributes:
        size: shorter side at which the network sees a frame, in pixels; smaller clips are not enlarged; 0: full size.
        memory_every: keep every Nth frame in memory.
        memory_size: number of such frames kept at most, beside given masks and the previous frame; 0: no limit.
        flip: average with the mirrored clip; twice the work.
        scales: sizes at which the network sees the clip, as multiples of `size`; their probabilities are averaged
            (multi-scale testing). Confidence is predicted at the first one.
        reference_weight: factor on the weight that frames with a given mask have in a read of the memory; 1 is STM.
        adapt: steps of training on the first mask before a clip is segmented, see `mgseg.segment.adaptation`; 0: none.
        objects_at_once: how many objects go through the network together; bounds memory, not results. None: eight;
            on a CPU one, which for three objects takes half the memory and a thirtieth more time.
    """

    size: int = 480
    memory_every: int = 5
    memory_size: int = 10
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    reference_weight: float = 1.0
    adapt: int = 0
    objects_at_once: int | None = None

    def __post_init__(self) -> None:
        if self.size < 0 or self.memory_size < 0 or self.adapt < 0:
            raise ValueError("size, memory_size and adapt must be 0 or more")
        if self.memory_every < 1 or (self.objects_at_once is not None and self.objects_at_once < 1):
            raise ValueError("memory_every and objects_at_once must be 1 or more")
        if not self.scales or not all(0.25 <= scale <= 4 for scale in self.scales):
            raise ValueError(f"scales must be from 0.25 to 4, found {self.scales}")
        if not 0 < self.reference_weight <= 1e6:
            raise ValueError(f"reference_weight must be above 0 and at most 1000000, found {self.reference_weight}")

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what the masks are, in plain values, for their record; newer options only where they are not
        the default, so that older records still match.
        """
        values = {name: value for name, value in asdict(self).items() if name != "objects_at_once"}
        for name in ("scales", "reference_weight", "adapt"):
            if values[name] == getattr(SegmenterOptions, name):
                del values[name]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def with_less_memory(self, shorter_side: int, precision: str) -> str:
        """Return a hint: which settings need less memory than these with this precision.

        Args:
            shorter_side: shorter side of the clip as the network saw it, in pixels.
            precision: precision of the network.
        """
        size = max(16, int(shorter_side / 2**0.5) // 16 * 16)  # memory goes with the number of pixels
        ways = [f"--size {size} uses about half the memory"]
        if self.memory_size != 1:
            ways.append(f"--memory-size {self.memory_size // 2 or 5}")
        if precision == "float32":
            ways.append("--precision float16")
        if self.flip:
            ways.append("leaving out --flip")
        if self.scales != (1.0,):
            ways.append("leaving out --scales")
        return "; these use less too: ".join([ways[0], ", ".join(ways[1:])]) if ways[1:] else ways[0]
