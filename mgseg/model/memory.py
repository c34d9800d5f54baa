"""Space-time memory: the read, with bounded memory use, and the choice of the frames to keep.

Shapes: h x w the key map, L = T * h * w memory positions of T frames, Ck key and Cv value channels.
Source: STM, section 3.2 (read) and section 3.5 (which frames are kept).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK_ELEMENTS = 4 * 2**20  # of the correlation map held at a time; 16 MB in float32
# Weights up to it are taken as zero: a million of them is less than the rounding of the sum of all, which is 1.
NEGLIGIBLE = 1e-16


def read_memory(
    query_key: Tensor,
    keys: Tensor,
    values: Tensor,
    max_elements: int = CHUNK_ELEMENTS,
    bias: Tensor | None = None,
) -> Tensor:
    """Read the memory at every query position: softmax(k . q / sqrt(Ck)) over the memory, times the values.

    The query positions go through in chunks, so that the L x (h * w) map is never stored whole.

    Args:
        query_key: (B, Ck, h, w).
        keys: (B, N, Ck, L), of each object.
        values: (B, N, Cv, L).
        max_elements: how many numbers of the map may be held at a time.
        bias: added to the logits of each memory position, broadcast to (B, N, L); None adds nothing, as in STM.

    Returns:
        The read-out (B, N, Cv, h, w).
    """
    batch, num_objects, key_dim, length = keys.shape
    height, width = query_key.shape[-2:]
    query = query_key.flatten(2).transpose(1, 2).unsqueeze(1) / math.sqrt(key_dim)  # (B, 1, h * w, Ck)
    chunk = max(1, max_elements // (batch * num_objects * length))
    on_cpu = query.device.type == "cpu" and not (query.requires_grad or keys.requires_grad)
    scratch = None
    if on_cpu and not torch.is_autocast_enabled("cpu"):
        # One size for any number of frames: growing blocks would leave holes in the heap.
        scratch = query.new_empty(max(max_elements, batch * num_objects * length))
    parts = []
    for piece in query.split(chunk, dim=2):
        weights = _weights(piece, keys, scratch, bias)
        parts.append(_weigh(values, weights) if on_cpu else torch.matmul(values, weights.transpose(-1, -2)))
    return torch.cat(parts, dim=-1).unflatten(-1, (height, width))


def _weights(piece: Tensor, keys: Tensor, scratch: Tensor | None, bias: Tensor | None) -> Tensor:
    """Return the softmax over the memory for some query positions, (B, N, chunk, L), in `scratch` where it is given."""
    if scratch is None:
        logits = torch.matmul(piece, keys)
        return (logits if bias is None else logits + bias.unsqueeze(-2)).softmax(dim=-1)
    shape = (*keys.shape[:2], piece.shape[2], keys.shape[3])
    weights = scratch[: math.prod(shape)].view(shape)
    torch.matmul(piece, keys, out=weights)
    if bias is not None:
        weights += bias.unsqueeze(-2)
    return torch.softmax(weights, dim=-1, out=weights)


def _weigh(values: Tensor, weights: Tensor) -> Tensor:
    """Multiply values (B, N, Cv, L) by the transpose of weights (B, N, chunk, L), on a CPU.

    Positions at which no query of the chunk looks are left out where they are most of them, as with sharp weights.
    """
    if _looked_at(weights[:, :, ::16]).float().mean() < 0.5:
        positions = _looked_at(weights).nonzero().squeeze(1)
        values, weights = values.index_select(-1, positions), weights.index_select(-1, positions)
    F.threshold(weights, NEGLIGIBLE, 0.0, inplace=True)  # denormal numbers make a CPU's products ten times slower
    return torch.matmul(values, weights.transpose(-1, -2))


def _looked_at(weights: Tensor) -> Tensor:
    """Return for each of the L positions whether any weight is more than negligible, or not a number."""
    return ~(weights.amax(dim=(0, 1, 2)) <= NEGLIGIBLE)


class LabelledMemory(NamedTuple):
    """The memory of one object, with the object's share in each of its positions."""

    keys: Tensor  # (Ck, L)
    labels: Tensor  # (L,): the object's share of each position
    given: Tensor  # (L,): 1 in frames whose mask was given, else 0
    newest_given: slice  # of L: the given frame that came last


class MemoryBank:
    """The past frames of one object of one clip, in storage allocated once.

    Kept for ever: frames whose mask was given. Kept up to `memory_size`: every `memory_every`-th frame; when full,
    the one whose going leaves the rest most even over the past goes. Kept until the next frame: the previous frame.
    The order of the slots means nothing to the softmax, so a frame that goes is overwritten in place.

    Args:
        memory_every: a frame is kept when its number, counted from the object's first frame, is a multiple.
        memory_size: how many such frames are kept at most; 0 means no bound.
    """

    def __init__(self, memory_every: int, memory_size: int) -> None:
        self.memory_every = memory_every
        self.memory_size = memory_size
        self.given: list[int] = []  # frame numbers, those of remembered ones negative and first
        self.kept: list[int] = []
        self._slots: dict[int, int] = {}  # frame number -> slot
        self._first: int | None = None  # the clip's first frame here
        self._previous: int | None = None  # the newest frame, where it was not given
        self._keys: Tensor  # (B, Ck, slots, h * w), from the first frame on
        self._values: Tensor  # (B, Cv, slots, h * w)
        self._labels: Tensor  # (slots, h * w)
        self._given: Tensor  # (slots, 1), 1 where the mask was given

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, frame: int) -> bool:
        return frame in self._slots

    def will_keep(self, frame: int) -> bool:
        """Whether a frame, not given, becomes a kept one when the next comes."""
        return (frame - (self._first or 0)) % self.memory_every == 0

    def add(self, frame: int, key: Tensor, value: Tensor, given: bool = False, label: Tensor | None = None) -> None:
        """Add the newest frame. If allocation fails, the same call can be repeated.

        Args:
            frame: its number.
            key: (B, Ck, h, w); B is one, or more where a clip is seen in several views at once.
            value: (B, Cv, h, w).
            given: its mask was given, not predicted.
            label: the object's share of each cell, (h, w), for `labelled_views`.
        """
        self._drop_previous()
        self._store(frame, key, value, given, label)
        self._first = frame if self._first is None else self._first
        if given:
            self.given.append(frame)
        else:
            self._previous = frame

    def remember(self, key: Tensor, value: Tensor, label: Tensor | None = None) -> None:
        """Add a frame with a given mask, from anywhere in the clip; only `forget` drops it. Arguments as for `add`."""
        frame = min([*self.given, 0]) - 1
        self._store(frame, key, value, True, label)
        self.given.insert(0, frame)

    def forget(self) -> None:
        """Drop the frame remembered last, if there is one."""
        if not self.given or self.given[0] >= 0:
            return
        freed = self._slots.pop(self.given.pop(0))
        for frame, slot in self._slots.items():
            if slot == len(self._slots):  # the last one takes the freed slot, because reads need dense slots
                for stored in (self._labels, self._given):
                    stored[freed] = stored[slot]
                for stored in (self._keys, self._values):
                    stored[:, :, freed] = stored[:, :, slot]
                self._slots[frame] = freed

    def _store(self, frame: int, key: Tensor, value: Tensor, given: bool, label: Tensor | None) -> None:
        self._allocate(key, value)
        free = set(range(self._keys.shape[2])) - set(self._slots.values())
        slot = min(free)
        self._keys[:, :, slot] = key.flatten(2)
        self._values[:, :, slot] = value.flatten(2)
        self._given[slot] = float(given)
        if label is not None:
            self._labels[slot] = label.flatten()
        self._slots[frame] = slot  # last

    def read_views(self) -> tuple[Tensor, Tensor]:
        """Return the keys (B, Ck, L) and values (B, Cv, L) of all frames, as views of the storage."""
        used = len(self._slots)  # slots are dense: a freed one is filled before the next read
        return self._keys[:, :, :used].flatten(2), self._values[:, :, :used].flatten(2)

    def labelled_views(self) -> LabelledMemory:
        """Return the keys of all frames, in the first view, with the object's share of each position."""
        used = len(self._slots)
        keys, labels = self._keys[0, :, :used].flatten(1), self._labels[:used]
        size = labels.shape[1]
        start = self._slots[self.given[-1]] * size
        return LabelledMemory(keys, labels.flatten(), self.given_positions(), slice(start, start + size))

    def given_positions(self) -> Tensor:
        """Return which positions (L,) are of frames with a given mask: 1 there, else 0."""
        return self._given[: len(self._slots)].expand(-1, self._labels.shape[1]).flatten()

    def detach(self) -> None:
        """Detach the stored frames from their graph, so that in training no gradient flows back through them."""
        self._keys, self._values = self._keys.detach(), self._values.detach()

    def _drop_previous(self) -> None:
        """Decide, before a newer frame comes, whether the previous one stays as a kept frame."""
        frame, self._previous = self._previous, None
        if frame is None:
            return
        if not self.will_keep(frame):
            del self._slots[frame]
            return
        self.kept.append(frame)
        if self.memory_size and len(self.kept) > self.memory_size:
            del self._slots[self._most_redundant()]

    def _most_redundant(self) -> int:
        """Remove and return the kept frame between the two closest neighbours; the oldest of equals."""
        times = [self._first or 0, *self.kept, self.kept[-1] + self.memory_every]
        gaps = [times[i + 2] - times[i] for i in range(len(self.kept))]
        return self.kept.pop(gaps.index(min(gaps)))

    def _allocate(self, key: Tensor, value: Tensor) -> None:
        """Allocate room for one more frame: at first for all that the limits allow, later only for given masks."""
        have = self._keys.shape[2] if self._slots else 0
        if len(self._slots) < have:
            return
        extra = self.memory_size + 2 if not have and self.memory_size else max(4, have // 2)
        positions = key.shape[-2] * key.shape[-1]
        keys = key.new_empty(*key.shape[:2], have + extra, positions)
        values = value.new_empty(*value.shape[:2], have + extra, positions)
        labels, given = (key.new_zeros(have + extra, size, dtype=torch.float32) for size in (positions, 1))
        if have:
            keys[:, :, :have], values[:, :, :have] = self._keys, self._values
            labels[:have], given[:have] = self._labels, self._given
        self._keys, self._values, self._labels, self._given = keys, values, labels, given
