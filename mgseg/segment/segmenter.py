"""`Segmenter`: takes the frames of a clip one by one and returns their masks. It reads and writes no files.

Shapes: N objects, H x W the clip, h x w the clip as the network sees it. See `mgseg.segment.views` for more.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mgseg.device import SpareThreads, denormals_as_zero, is_out_of_memory
from mgseg.errors import DeviceError, InputError
from mgseg.files.masks import VOID, as_index_map, object_ids
from mgseg.model.confidence import ConfidenceModel
from mgseg.model.memory import CHUNK_ELEMENTS, MemoryBank
from mgseg.model.network import pad_to_stride, unpad
from mgseg.network import Network
from mgseg.segment.adaptation import OnStep, adapt
from mgseg.segment.confidence import ConfidenceMeter, Measured, confidence_model
from mgseg.segment.options import SegmenterOptions as SegmenterOptions  # its public place
from mgseg.segment.scaling import arg_max, network_size, resize
from mgseg.segment.scores import Scores
from mgseg.segment.views import View

T = TypeVar("T")
_NOT_FINITE = 255  # no slot: there are 254 at most


@dataclass
class _Object:
    object_id: int
    banks: tuple[MemoryBank, ...]  # one for each view


@dataclass
class _Frame:
    """The newest frame, not yet in memory: it goes there when the next one comes."""

    number: int
    images: tuple[Tensor, ...]  # as each view sees it
    prob: Tensor  # (1, N + 1, h, w), background first
    given: frozenset[int]  # ids whose mask was given on it


class Segmenter:
    """Segments one clip, or one after another: `start` begins a new one, `step` takes its next frame.

    Args:
        network: the network; by default `Network()`. Its weights are loaded here.
        options: see `SegmenterOptions`.
        confidence: model that predicts J; by default the one in the weights file.
        on_adapt: called with the steps of adaptation done and of all (`SegmenterOptions.adapt`).

    Raises:
        DeviceError: in `start` and `step`, if the device runs out of memory or float16 overflows.
        InputError: in `start` and `step`, for a frame or mask of another shape, type or size.
        WeightsError: here, for weights that cannot be loaded.
    """

    def __init__(
        self,
        network: Network | None = None,
        options: SegmenterOptions | None = None,
        confidence: ConfidenceModel | None = None,
        on_adapt: OnStep | None = None,
    ) -> None:
        self.options = options or SegmenterOptions()
        self.network = network or Network()
        self.device = self.network.device
        self.model = self.network.model
        self._on_adapt = on_adapt
        self._at_once = self.options.objects_at_once or (1 if self.device.type == "cpu" else 8)
        self._max_elements = CHUNK_ELEMENTS
        self._spare_threads = SpareThreads()
        self._objects: list[_Object] = []
        self._last: _Frame | None = None
        self._clip_size: tuple[int, int] | None = None  # (H, W)
        self._views: tuple[View, ...] = ()
        self._confidence_model = confidence or confidence_model(self.network)
        self._meter: ConfidenceMeter | None = None

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The ids of the objects, in the order of their planes in `probabilities`."""
        return tuple(o.object_id for o in self._objects)

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Probabilities of the last frame, float32 (N + 1, H, W) in [0, 1], background first."""
        if self._last is None or self._clip_size is None:
            raise InputError("there are no probabilities before the first frame", "call start() first")
        return resize(self._last.prob, self._clip_size)[0].cpu().numpy()

    @property
    def confidence(self) -> dict[int, float] | None:
        """The J predicted for each object in the last frame, in [0, 1], by id; 1 where its mask was given.

        None if the weights contain no confidence model (`mgseg weights calibrate` adds one). Objects without a
        prediction, as after `recall`, are left out.
        """
        if self._meter is None or self._last is None:
            return None
        values = self._meter.confidence() | dict.fromkeys(self._last.given, 1.0)
        return {i: values[i] for i in self.object_ids if i in values}

    @property
    def measured(self) -> Measured | None:
        """What `confidence` was predicted from; None where nothing was predicted."""
        return self._meter.last if self._meter else None

    @property
    def scores(self) -> Scores:
        """Probability of each object of the last frame by its id, float32 (H, W), computed when it is looked up."""
        if self._last is None or self._clip_size is None:
            raise InputError("there are no scores before the first frame", "call start() first")
        return Scores(self._last.prob, self.object_ids, self._clip_size)

    @property
    def network_probabilities(self) -> NDArray[np.float32]:
        """`probabilities` at the size that the network sees, float32 (N + 1, h, w)."""
        if self._last is None:
            raise InputError("there are no probabilities before the first frame", "call start() first")
        return self._last.prob[0].float().cpu().numpy()

    def start(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8], *, adapt: bool = True) -> NDArray[np.uint8]:
        """Begin a clip at a frame whose mask is known.

        Args:
            frame: uint8 (H, W, 3), RGB.
            mask: uint8 (H, W): ids 1 to 254, 0 background, 255 void; ids keep their numbers. Or bool: object 1.
            adapt: adapt the network to this mask first, if the options ask for it; False leaves it as it is.

        Returns:
            The mask, with background for void, uint8 (H, W).
        """
        size = _check(frame, None)
        mask = as_index_map(mask, size)
        if not object_ids(mask):
            raise InputError("the first mask has no object", "pixels with values 1 to 254 are objects")
        if adapt:
            self.adapt(frame, mask)
        self._objects, self._last, self._clip_size = [], None, size
        self._views = self._make_views()
        self._meter = ConfidenceMeter(self._confidence_model) if self._confidence_model else None
        return self._attempt(lambda: self._step(frame, mask, zero_is_background=True))

    def adapt(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        """Adapt the network to a clip, as `options.adapt` says, from the next `start` on; see there for the arguments.

        Raises:
            DeviceError: the device runs out of memory.
        """
        if not self.options.adapt:
            return
        size = _check(frame, None)
        mask = as_index_map(mask, size)
        height, width = network_size(size, self.options.size)
        image = resize(torch.tensor(frame).permute(2, 0, 1).unsqueeze(0).float(), (height, width))
        small = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
        with self._spare_threads(), denormals_as_zero():
            self.model = adapt(
                self.network,
                image[0].permute(1, 2, 0).round().byte().numpy(),
                np.array(small),
                self.options.adapt,
                self._on_adapt,
            )

    def step(
        self, frame: NDArray[np.uint8], mask: NDArray[np.uint8] | None = None, *, zero_is_background: bool = False
    ) -> NDArray[np.uint8]:
        """Segment the clip's next frame.

        Args:
            frame: uint8 (H, W, 3), RGB, of the clip's size.
            mask: uint8 (H, W), known objects of this frame: new ones, or corrections. Where it is 0 or 255, the
                prediction is kept.
            zero_is_background: treat 0 in `mask` as background.

        Returns:
            The mask, uint8 (H, W) of object ids, 0 background.
        """
        size = self._check_next(frame)
        stated = None if mask is None else as_index_map(mask, size)
        return self._attempt(lambda: self._step(frame, stated, zero_is_background))

    def remember(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        """Add a frame with a known mask to memory, for the frames that follow; it may be any frame of the clip.

        Objects of the mask that the clip does not have are ignored. 0 in the mask is background.

        Args:
            frame: as for `step`.
            mask: uint8 (H, W).
        """
        if self._clip_size is None:
            raise InputError("a mask cannot be added to memory before the first frame", "call start() first")
        size = _check(frame, self._clip_size)
        known = as_index_map(mask, size)
        self._attempt(lambda: self._remember(frame, known))

    def forget(self) -> None:
        """Drop the frame that `remember` added last, for example when the clip has reached it."""

        def drop() -> None:
            for tracked in self._objects:
                for bank in tracked.banks:
                    bank.forget()

        self._attempt(drop)

    def blend(self, other: NDArray[np.float32], weight: float | Sequence[float]) -> NDArray[np.uint8]:
        """Average the last frame's probabilities with others, before the frame is added to memory.

        Args:
            other: float32 (N + 1, h, w), of the same objects, at any size: `probabilities`, or `network_probabilities`.
            weight: weight of `other`, in [0, 1], or one for each object; the background gets their mean.

        Returns:
            The mask, uint8 (H, W).
        """
        if self._last is None or len(other) != self._last.prob.shape[1]:
            raise InputError(f"{len(other)} planes cannot be blended with those of {len(self._objects)} objects")

        def mix() -> NDArray[np.uint8]:
            assert self._last is not None
            theirs = resize(torch.from_numpy(other).to(self.device).unsqueeze(0), self._network_size)
            weights = np.broadcast_to(weight, len(other) - 1)
            shares = torch.tensor([weights.mean(), *weights], dtype=theirs.dtype, device=self.device).view(1, -1, 1, 1)
            prob = (1 - shares) * self._last.prob + shares * theirs
            self._last.prob = prob / prob.sum(1, keepdim=True).clamp_min(1e-6)  # 0 if the passes exclude each other
            return self._index_to_ids()

        return self._attempt(mix)

    def recall(
        self, frame: NDArray[np.uint8], mask: NDArray[np.uint8], given: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Take the clip's next frame with a mask that an earlier run made, without segmenting it.

        It is added to memory like a segmented frame, with `mask` instead of the soft probabilities.

        Args:
            frame: as for `step`.
            mask: uint8 (H, W) that `step` returned then.
            given: uint8 (H, W) that `step` was given then.

        Returns:
            `mask`.
        """
        mask = as_index_map(mask, self._check_next(frame))
        return self._attempt(lambda: self._recall(frame, mask, () if given is None else object_ids(given)))

    def _check_next(self, frame: NDArray[np.uint8]) -> tuple[int, int]:
        """Check a frame after the first, and return its (height, width)."""
        if self._last is None:
            raise InputError("no clip has begun", "call start(frame, mask) with the first frame that has a mask")
        return _check(frame, self._clip_size)

    def _step(
        self, frame: NDArray[np.uint8], mask: NDArray[np.uint8] | None, zero_is_background: bool
    ) -> NDArray[np.uint8]:
        images = self._see(frame)
        self._memorise_last()
        self._last = _Frame(self._next_number, images, self._predict(images), frozenset())
        if mask is None:
            return self._index_to_ids()
        result = self._take_mask(mask, zero_is_background)
        self._measure_given()
        return result

    def _remember(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        ids = [i for i in self.object_ids if i in object_ids(mask)]
        if not ids:
            return
        given = torch.from_numpy(mask).to(self.device)
        planes = torch.stack([given == i for i in ids]).unsqueeze(0).float()
        tracked = {one.object_id: one for one in self._objects}
        one_by_one = [slice(index, index + 1) for index in range(len(ids))]
        for number, (view, image) in enumerate(zip(self._views, self._see(frame), strict=True)):
            for object_id, encoded in zip(ids, view.encode(image, planes, one_by_one), strict=True):
                tracked[object_id].banks[number].remember(*encoded)

    def _recall(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8], given: tuple[int, ...]) -> NDArray[np.uint8]:
        last = self._last
        if last and (last.given or any(o.banks[0].will_keep(last.number) for o in self._objects)):
            self._memorise_last()  # otherwise the memory would drop it at the next frame
        unknown = torch.zeros(1, 1, *self._network_size, device=self.device)  # the mask states every pixel
        self._last = _Frame(self._next_number, self._see(frame), unknown, frozenset())
        self._take_mask(mask, zero_is_background=True)
        self._last.given = frozenset(given)
        if self._meter:
            self._meter.last = None
        self._measure_given()
        return mask

    @property
    def _network_size(self) -> tuple[int, int]:
        assert self._clip_size is not None
        return network_size(self._clip_size, self.options.size)

    @property
    def _next_number(self) -> int:
        return self._last.number + 1 if self._last else 0

    def remove(self, object_ids: Iterable[int]) -> None:
        """Forget objects; their pixels become background from the next frame on. Unknown ids are an InputError."""
        gone = set(object_ids)
        unknown = gone - set(self.object_ids)
        if unknown:
            raise InputError(f"no object {min(unknown)} to remove", f"the objects are {self.object_ids}")
        keep = [slot for slot, o in enumerate(self._objects) if o.object_id not in gone]
        if self._last is not None:
            objects = self._last.prob[:, 1:][:, keep]
            self._last.prob = torch.cat((1 - objects.sum(1, keepdim=True), objects), dim=1)
        self._objects = [self._objects[slot] for slot in keep]

    def _attempt(self, work: Callable[[], T]) -> T:
        """Run in the precision asked for; where memory runs out, once more from the same state in smaller parts.

        Raises:
            DeviceError: the device's memory does not suffice either way.
        """
        objects, last = list(self._objects), self._last
        try:
            return self._compute(work)
        except (DeviceError, RuntimeError) as error:
            self._objects, self._last = objects, last
            if isinstance(error, DeviceError) or not is_out_of_memory(error):
                raise
        self._at_once, self._max_elements = 1, CHUNK_ELEMENTS // 16  # and for the frames that follow
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            return self._compute(work)
        except RuntimeError as error:
            self._objects, self._last = objects, last
            if not is_out_of_memory(error):
                raise
            message = (
                f"out of memory on {self.device} with {len(objects)} object(s), even when they are computed one by one"
            )
            raise DeviceError(
                message, self.options.with_less_memory(min(self._network_size), self.network.precision)
            ) from error

    def _compute(self, work: Callable[[], T]) -> T:
        dtype = self.network.dtype
        autocast = torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32)
        with self._spare_threads(), torch.inference_mode(), autocast, denormals_as_zero():
            return work()

    def _make_views(self) -> tuple[View, ...]:
        options, (height, width) = self.options, self._network_size
        return tuple(
            View(self.model, (round(height * x), round(width * x)), options.flip, options.reference_weight)
            for x in options.scales
        )

    def _see(self, frame: NDArray[np.uint8]) -> tuple[Tensor, ...]:
        """Return the frame as each view sees it."""
        image = torch.from_numpy(frame.copy()).to(self.device)
        image = image.permute(2, 0, 1).unsqueeze(0).float() / 255
        return tuple(view.see(image) for view in self._views)

    def _groups(self) -> Iterator[slice]:
        step = self._at_once
        for first in range(0, len(self._objects), step):
            yield slice(first, min(first + step, len(self._objects)))

    def _memorise_last(self) -> None:
        """Put the last frame into the memory of each object."""
        last = self._last
        if last is None or not self._objects:
            return
        for number, (view, image) in enumerate(zip(self._views, last.images, strict=True)):
            encoded = view.encode(image, last.prob[:, 1:], self._groups())
            for tracked, (key, value, label) in zip(self._objects, encoded, strict=True):
                bank = tracked.banks[number]
                if last.number not in bank:  # it is there when a try before this one came so far
                    bank.add(last.number, key, value, tracked.object_id in last.given, label)

    def _predict(self, images: tuple[Tensor, ...]) -> Tensor:
        """Return the probabilities (1, N + 1, h, w) of a frame, background first: the mean over the views."""
        if not self._objects or self._last is None:
            return torch.ones(1, 1, *self._network_size, device=self.device)
        found = []
        for number, (view, image) in enumerate(zip(self._views, images, strict=True)):
            banks = [tracked.banks[number] for tracked in self._objects]
            prob, key = view.predict(image, self._last.prob, banks, self._groups(), self._max_elements)
            if self._meter and number == 0:
                self._meter.measure(self.object_ids, prob[0, 1:], key, banks)
            found.append(resize(unpad(prob, view.padding), self._network_size))
        return found[0] if len(found) == 1 else torch.stack(found).mean(0)

    def _measure_given(self) -> None:
        """Tell the meter which masks were given on the last frame."""
        if self._meter and self._last:
            given = [i for i in self.object_ids if i in self._last.given]
            planes = [self.object_ids.index(i) + 1 for i in given]
            self._meter.give(given, pad_to_stride(self._last.prob[0, planes])[0])

    def _take_mask(self, mask: NDArray[np.uint8], zero_is_background: bool) -> NDArray[np.uint8]:
        """Let `mask` overrule what was predicted on the last frame, and return the result."""
        last = self._last
        assert last is not None
        stated_ids = object_ids(mask)
        for object_id in stated_ids:
            if object_id not in self.object_ids:
                rule = self.options.memory_every, self.options.memory_size
                self._objects.append(_Object(object_id, tuple(MemoryBank(*rule) for _ in self._views)))
        planes = (0, *self.object_ids)
        silent = (VOID,) if zero_is_background else (0, VOID)
        given = torch.from_numpy(mask.copy()).to(self.device)  # an array may be read-only, or a mirrored view
        onehot = torch.stack([(given == i) & (i not in silent) for i in planes]).unsqueeze(0).float()
        onehot = resize(onehot, self._network_size)
        prob = F.pad(last.prob, (0, 0, 0, 0, 0, onehot.shape[1] - last.prob.shape[1]))
        last.prob = onehot + (1 - onehot.sum(1, keepdim=True)) * prob
        last.given = frozenset(stated_ids)
        result = self._index_to_ids()
        return np.where(np.isin(mask, silent), result, mask).astype(np.uint8)

    def _index_to_ids(self) -> NDArray[np.uint8]:
        assert self._last is not None
        assert self._clip_size is not None
        index = arg_max(self._last.prob, self._clip_size)[0]
        if (
            self.network.precision == "float16"
        ):  # taken from the mask: reading it from the device would wait for the device twice
            index = index.masked_fill(~self._last.prob.isfinite().all(), _NOT_FINITE)
        slots = index.cpu().numpy()
        if slots[0, 0] == _NOT_FINITE:
            hint = "use --precision bfloat16 or float32"
            raise DeviceError("these weights produce numbers beyond the range of float16 (65504)", hint)
        table = np.array((0, *self.object_ids), dtype=np.uint8)
        return table[slots]


def _check(frame: object, clip_size: tuple[int, int] | None) -> tuple[int, int]:
    """Return the frame's (height, width)."""
    if not isinstance(frame, np.ndarray):
        hint = "np.asarray(...) makes one of a list or a Pillow picture, .cpu().numpy() of a tensor"
        raise InputError(f"a frame must be a NumPy array, found {type(frame).__name__}", hint)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        hint = "values from 0 to 1: (255 * frame).astype(np.uint8); grey: np.dstack([frame] * 3)"
        raise InputError(f"a frame must be uint8 (H, W, 3), RGB, found {frame.dtype} {frame.shape}", hint)
    size = (frame.shape[0], frame.shape[1])
    if 0 in size:
        raise InputError(f"a frame of {size} (height, width) has no pixels")
    if clip_size is not None and size != clip_size:
        raise InputError(
            f"a frame of {size} (height, width) in a clip of {clip_size}", "call start() to begin another clip"
        )
    return size
