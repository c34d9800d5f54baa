"""Confidence in one clip: predicted J of each object in a frame, from the state of the Segmenter."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mgseg.errors import WeightsError
from mgseg.model.confidence import ConfidenceModel, Shape, join_features, measure_match, measure_shape
from mgseg.model.memory import MemoryBank
from mgseg.model.motion_prior import STRIDE
from mgseg.network import Network

ENTRY = "confidence"  # of a weights file
FINE = 4  # stride of the maps that shapes are measured on


def confidence_model(network: Network) -> ConfidenceModel | None:
    """Return the confidence model that a network's weights hold, None if they hold none.

    Raises:
        WeightsError: it is of another form.
    """
    entry = network.extra.get(ENTRY)
    if entry is None:
        return None
    try:
        return ConfidenceModel(**entry)
    except (TypeError, ValueError, AttributeError) as error:
        message = f"{network.name} holds a confidence model of another form: {error}"
        raise WeightsError(message, "fit a new one: mgseg weights calibrate") from error


@dataclass(frozen=True)
class Measured:
    """Measurements of a frame.

    Attributes:
        object_ids: the objects.
        features: float (N, F), on the device.
        areas: float (N,), on the device.
        predicted: J, float (N,), on its way to the CPU: it is there when the frame's mask is.
    """

    object_ids: tuple[int, ...]
    features: Tensor
    areas: Tensor
    predicted: Tensor


class ConfidenceMeter:
    """Measures frame after frame.

    Args:
        model: turns features into J.
    """

    def __init__(self, model: ConfidenceModel) -> None:
        self._model = model
        self._given: dict[int, Shape] = {}  # object id -> shape of the mask that was given of it last
        self.last: Measured | None = None

    def give(self, object_ids: Sequence[int], masks: Tensor) -> None:
        """Learn the shapes of given masks.

        Args:
            object_ids: ids of N objects.
            masks: float (N, H, W), padded.
        """
        if not object_ids:
            return
        shape = measure_shape(F.avg_pool2d(masks, FINE))
        for index, object_id in enumerate(object_ids):
            self._given[object_id] = Shape(*(numbers[index] for numbers in shape))

    def measure(self, object_ids: Sequence[int], prob: Tensor, key: Tensor, banks: Sequence[MemoryBank]) -> None:
        """Measure a frame that was segmented.

        Args:
            object_ids: ids of N objects.
            prob: their probabilities, float (N, H, W), padded.
            key: key of the frame, (Ck, h, w).
            banks: their memories, which the frame was segmented from.
        """
        with torch.autocast(prob.device.type, enabled=False):
            fine = F.avg_pool2d(prob, FINE)
            coarse = F.avg_pool2d(fine, STRIDE // FINE)
            pairs = zip(coarse, banks, strict=True)
            matches = torch.stack([measure_match(mask, key.float(), bank.labelled_views()) for mask, bank in pairs])
            shape = measure_shape(fine)
            given = Shape(
                *(torch.stack(numbers) for numbers in zip(*(self._given[i] for i in object_ids), strict=True))
            )
            features = join_features(shape, given, matches)
            predicted = self._model.predict(features, shape.area).to("cpu", non_blocking=True)
        self.last = Measured(tuple(object_ids), features, shape.area, predicted)

    def confidence(self) -> dict[int, float]:
        """J predicted of each object in the last frame that was measured; to be asked for after its mask."""
        last = self.last
        return {} if last is None else dict(zip(last.object_ids, last.predicted.tolist(), strict=True))
