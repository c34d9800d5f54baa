"""Scores of a frame, kept at the network's size and resized to the clip's only when an output reads them."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mgseg.segment.scaling import resize


class Scores(Mapping[int, NDArray[np.float32]]):
    """The probability of each object by its id, float32 (H, W) in [0, 1], computed when it is looked up.

    Args:
        prob: float (1, N + 1, h, w), background first; it must not change.
        object_ids: ids of the planes behind the background.
        size: (height, width) of the clip.
    """

    def __init__(self, prob: Tensor, object_ids: tuple[int, ...], size: tuple[int, int]) -> None:
        self._prob, self._size = prob, size
        self._planes = {object_id: plane for plane, object_id in enumerate(object_ids, 1)}

    def __getitem__(self, object_id: int) -> NDArray[np.float32]:
        plane = self._planes[object_id]
        return resize(self._prob[:, plane : plane + 1], self._size)[0, 0].cpu().numpy()

    def __iter__(self) -> Iterator[int]:
        return iter(self._planes)

    def __len__(self) -> int:
        return len(self._planes)
