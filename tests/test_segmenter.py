"""One clip through the Segmenter: ids, memory, masks that come later, options; parity with the plain clip loop."""

import copy

import numpy as np
import pytest
import torch

from mgseg.errors import DeviceError, InputError
from mgseg.model import reference
from mgseg.model.network import ModelConfig, MotionGuidedSTM
from mgseg.network import Network
from mgseg.segment.segmenter import Segmenter, SegmenterOptions

pytestmark = pytest.mark.numeric

CONFIG = ModelConfig(trunk="mobilenet_v2", key_dim=8, value_dim=12, decoder_dim=6)


@pytest.fixture(scope="module")
def model() -> MotionGuidedSTM:
    """A random network whose masks follow its memory: a random trunk's small contrasts are amplified."""
    torch.manual_seed(1)
    model = MotionGuidedSTM(CONFIG).eval()
    with torch.no_grad():
        for layer in (model.query_key_value.key, model.memory_key_value.key, model.memory_key_value.value):
            layer.weight.mul_(3000)
        model.decoder.predict.weight.mul_(50)
    return model


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (9, 6, 8, 3), dtype=np.uint8)
    return [np.kron(c, np.ones((8, 8, 1), dtype=np.uint8)) for c in coarse]  # (48, 64, 3)


def mask_of(*ids: int) -> np.ndarray:
    """Vertical stripes of the given ids with background between them."""
    mask = np.zeros((48, 64), dtype=np.uint8)
    for i, object_id in enumerate(ids):
        mask[8:40, 16 * i + 2 : 16 * i + 14] = object_id
    return mask


def segmenter_of(model, precision="float32", **options) -> Segmenter:
    return Segmenter(Network.from_model(model, precision), SegmenterOptions(**options))


def run(model, frames, first, later=None, **options) -> list[np.ndarray]:
    segmenter = segmenter_of(model, **options)
    masks = [segmenter.start(frames[0], first)]
    return masks + [segmenter.step(f, (later or {}).get(t)) for t, f in enumerate(frames[1:], start=1)]


def test_masks_equal_those_of_the_plain_clip_loop(model, frames):
    plain = reference.PlainSegmenter(model, memory_every=3)
    images = [torch.from_numpy(f).permute(2, 0, 1).unsqueeze(0).float() / 255 for f in frames]
    first = mask_of(1, 2, 3)
    plain.start(images[0], torch.stack([torch.from_numpy(first == i).float() for i in (1, 2, 3)]))
    segmenter = segmenter_of(model, memory_every=3, memory_size=0, objects_at_once=2)
    segmenter.start(frames[0], first)
    for frame, image in zip(frames[1:], images[1:], strict=True):
        prob = plain.step(image)
        mask = segmenter.step(frame)
        np.testing.assert_allclose(segmenter.probabilities, prob.numpy(), rtol=0, atol=2e-3)
        best = prob.topk(2, dim=0).values
        clear = (best[0] - best[1] > 1e-3).numpy()
        assert clear.mean() > 0.5
        assert (mask == prob.argmax(0).numpy())[clear].all()


def test_ids_keep_their_numbers_and_void_is_background(model, frames):
    first = mask_of(254, 3, 77)
    first[0] = 255
    masks = run(model, frames, first)
    assert set(np.unique(masks[0])) == {0, 3, 77, 254}
    assert (masks[0] == np.where(first == 255, 0, first)).all()
    assert {int(i) for m in masks for i in np.unique(m)} <= {0, 3, 77, 254}
    assert any((m > 0).any() for m in masks[1:])


def test_groups_of_objects_change_memory_and_not_results(model, frames):
    first = mask_of(1, 2, 3, 4)
    for a, b in zip(
        run(model, frames, first, objects_at_once=8), run(model, frames, first, objects_at_once=1), strict=True
    ):
        assert (a == b).mean() > 0.999  # ties within float32's rounding


def test_order_of_ids_does_not_matter(model, frames):
    renamed = np.array([0, 9, 5, 2], dtype=np.uint8)
    for a, b in zip(run(model, frames, mask_of(1, 2, 3)), run(model, frames, renamed[mask_of(1, 2, 3)]), strict=True):
        assert (renamed[a] == b).mean() > 0.999


def test_a_later_mask_adds_objects_and_leaves_what_it_does_not_state(model, frames):
    without = run(model, frames, mask_of(1))
    new = np.zeros((48, 64), dtype=np.uint8)
    new[4:20, 40:60] = 8
    masks = run(model, frames, mask_of(1), later={4: new})
    assert (masks[4][new == 8] == 8).all()
    assert (masks[4][new == 0] == without[4][new == 0]).all()
    assert all((a == b).all() for a, b in zip(masks[:4], without[:4], strict=True))
    assert not any((m == 8).any() for m in masks[:4])


def test_zero_of_a_later_mask_is_background_when_asked(model, frames):
    segmenter = segmenter_of(model)
    segmenter.start(frames[0], mask_of(1, 2))
    corrected = mask_of(2)
    assert (segmenter.step(frames[1], corrected, zero_is_background=True) == corrected).all()
    assert segmenter.object_ids == (1, 2)


def test_removed_objects_do_not_come_back(model, frames):
    segmenter = segmenter_of(model)
    segmenter.start(frames[0], mask_of(1, 2, 3))
    segmenter.step(frames[1])
    segmenter.remove([2])
    assert segmenter.object_ids == (1, 3)
    for frame in frames[2:]:
        assert not (segmenter.step(frame) == 2).any()
    assert segmenter.probabilities.shape == (3, 48, 64)
    segmenter.remove([1, 3])
    assert not segmenter.step(frames[2]).any()
    with pytest.raises(InputError, match="no object 1"):
        segmenter.remove([1])


def test_start_begins_anew(model, frames):
    segmenter = segmenter_of(model)
    segmenter.start(frames[0], mask_of(5, 6))
    segmenter.step(frames[1])
    first = [segmenter.start(frames[0], mask_of(1)), *(segmenter.step(f) for f in frames[1:])]
    assert all((a == b).all() for a, b in zip(first, run(model, frames, mask_of(1)), strict=True))


def test_probabilities_sum_to_one_at_the_clip_s_size(model):
    frame = np.random.default_rng(1).integers(0, 256, (70, 101, 3), dtype=np.uint8)
    mask = np.zeros((70, 101), dtype=np.uint8)
    mask[20:50, 30:70] = 1
    segmenter = segmenter_of(model, size=33)
    segmenter.start(frame, mask)
    result = segmenter.step(frame)
    prob = segmenter.probabilities
    assert prob.shape == (2, 70, 101)
    assert prob.dtype == np.float32
    np.testing.assert_allclose(prob.sum(0), 1, atol=1e-5)
    assert (result == prob.argmax(0)).mean() > 0.999


def test_the_mean_of_one_scale_twice_is_that_scale(model, frames):
    first = mask_of(1, 2)
    for once, twice in zip(run(model, frames, first), run(model, frames, first, scales=(1.0, 1.0)), strict=True):
        assert (once == twice).all()


def test_a_scale_that_enlarges_keeps_the_clip_s_size_and_takes_new_and_remembered_masks(model, frames):
    segmenter = segmenter_of(model, scales=(1.5, 1.0), flip=True, reference_weight=2.0)
    segmenter.start(frames[0], mask_of(1))
    segmenter.remember(frames[5], mask_of(1))
    later = mask_of(0, 2)
    assert segmenter.step(frames[1], later).shape == later.shape
    assert segmenter.object_ids == (1, 2)
    segmenter.recall(frames[2], mask_of(1, 2))
    segmenter.step(frames[3])
    assert segmenter.probabilities.shape == (3, *later.shape)
    np.testing.assert_allclose(segmenter.probabilities.sum(0), 1, atol=1e-5)


def test_flip_makes_the_result_symmetric(model, frames):
    mirrored = [f[:, ::-1] for f in frames]
    first = mask_of(1, 2)
    straight = run(model, frames, first, flip=True)
    other = run(model, mirrored, np.ascontiguousarray(first[:, ::-1]), flip=True)
    for a, b in zip(straight, other, strict=True):
        assert (a == b[:, ::-1]).mean() > 0.999
    assert any((a != b).any() for a, b in zip(straight, run(model, frames, first), strict=True))


@pytest.mark.parametrize(
    "options",
    [
        *({"size": 32}, {"memory_every": 1}, {"memory_size": 1}, {"precision": "bfloat16"}),
        *({"scales": (1.0, 1.25)}, {"scales": (0.75,)}, {"reference_weight": 4.0}),
    ],
)
def test_every_option_changes_the_probabilities(model, frames, options):
    def probabilities(**kwargs):
        segmenter = segmenter_of(model, **{"memory_every": 2, **kwargs})
        segmenter.start(frames[0], mask_of(1, 2))
        return np.stack([segmenter.probabilities for f in frames[1:] if segmenter.step(f) is not None])

    assert np.abs(probabilities(**options) - probabilities()).max() > 1e-5


def test_float16_is_closer_to_float32_than_bfloat16(model, frames):
    def probabilities(precision):
        segmenter = segmenter_of(model, precision)
        segmenter.start(frames[0], mask_of(1, 2))
        segmenter.step(frames[1])
        return segmenter.probabilities

    exact = probabilities("float32")
    errors = [np.abs(probabilities(precision) - exact).mean() for precision in ("float16", "bfloat16")]
    assert 0 < errors[0] < errors[1] / 2


def test_weights_beyond_the_range_of_float16_are_refused_in_it(model, frames):
    large = copy.deepcopy(model)
    with torch.no_grad():
        large.decoder.compress.weight.mul_(1e7)
    segmenter = segmenter_of(large, "float16")
    segmenter.start(frames[0], mask_of(1, 2))
    with pytest.raises(DeviceError, match="numbers beyond the range of float16") as caught:
        segmenter.step(frames[1])
    assert "--precision bfloat16" in caught.value.hint
    run(large, frames[:2], mask_of(1, 2), precision="bfloat16")


@pytest.mark.parametrize(
    ("frame", "mask", "says"),
    [
        (np.zeros((48, 64), np.uint8), None, "a frame must be uint8"),
        (np.zeros((48, 64, 3), np.float32), None, "a frame must be uint8"),
        (np.zeros((40, 64, 3), np.uint8), None, "a frame of"),
        (np.zeros((48, 64, 3), np.uint8), np.zeros((48, 63), np.uint8), "a mask must be uint8"),
        (np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.int64), "a mask must be uint8"),
    ],
)
def test_bad_frames_and_masks_are_named(model, frames, frame, mask, says):
    segmenter = segmenter_of(model)
    segmenter.start(frames[0], mask_of(1))
    with pytest.raises(InputError, match=says):
        segmenter.step(frame, mask)


def test_a_first_mask_without_objects_is_refused(model, frames):
    with pytest.raises(InputError, match="no object"):
        segmenter_of(model).start(frames[0], np.full((48, 64), 255, np.uint8))


@pytest.mark.parametrize(
    "wrong",
    [
        *({"size": -1}, {"memory_every": 0}, {"objects_at_once": 0}, {"memory_size": -2}),
        *({"scales": ()}, {"scales": (1.0, 0.1)}, {"scales": (float("nan"),)}, {"reference_weight": 0.0}),
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SegmenterOptions(**wrong)


def test_a_step_before_start_is_refused(model, frames):
    segmenter = segmenter_of(model)
    for call in (segmenter.step, lambda frame: segmenter.recall(frame, mask_of(1))):
        with pytest.raises(InputError, match="no clip has begun") as caught:
            call(frames[0])
        assert "start(frame, mask)" in str(caught.value.hint)


def test_bool_and_read_only_and_mirrored_masks_are_taken_without_a_warning(model, frames):
    expected = segmenter_of(model).start(frames[0], mask_of(1))
    frozen = mask_of(1)
    frozen.flags.writeable = False
    for mask in (mask_of(1) > 0, frozen, mask_of(1)[:, ::-1][:, ::-1]):
        assert np.array_equal(segmenter_of(model).start(frames[0], mask), expected)


@pytest.mark.parametrize(
    ("mask", "says", "hint"),
    [
        (mask_of(255), "255 alone, which means void", "mask > 127"),
        (mask_of(1).astype(np.int64), "found int64", "astype"),
        (mask_of(1).tolist(), "a mask must be a NumPy array, found list", "np.asarray"),
        (torch.from_numpy(mask_of(1)), "a mask must be a NumPy array, found Tensor", "numpy()"),
        (mask_of(1)[:-1], r"of the frame's size \(48, 64\), found uint8 \(47, 64\)", "nearest"),
    ],
    ids=["0/255", "int64", "list", "tensor", "size"],
)
def test_masks_that_cannot_be_taken_are_refused_with_what_to_do(model, frames, mask, says, hint):
    segmenter = segmenter_of(model)
    with pytest.raises(InputError, match=says) as caught:
        segmenter.start(frames[0], mask)
    assert hint in caught.value.hint
    segmenter.start(frames[0], mask_of(1))
    with pytest.raises(InputError, match=says):
        segmenter.step(frames[1], mask)


@pytest.mark.parametrize(
    ("change", "says", "hint"),
    [
        (lambda frame: frame.tolist(), "a frame must be a NumPy array, found list", "np.asarray"),
        (lambda frame: frame / 255, "found float64", "255"),
        (lambda frame: frame[:, :, 0], r"found uint8 \(48, 64\)", "np.dstack"),
        (lambda frame: frame[:0], "no pixels", ""),
    ],
    ids=["list", "float", "grey", "empty"],
)
def test_frames_that_cannot_be_taken_are_refused_with_what_to_do(model, frames, change, says, hint):
    with pytest.raises(InputError, match=says) as caught:
        segmenter_of(model).start(change(frames[0]), mask_of(1))
    assert hint in (caught.value.hint or "")


def test_scores_are_the_probabilities_of_each_object_and_stay_those_of_their_frame(model, frames):
    segmenter = segmenter_of(model, size=32)
    with pytest.raises(InputError, match="before the first frame"):
        _ = segmenter.scores
    segmenter.start(frames[0], mask_of(7, 3))
    segmenter.step(frames[1])
    scores, planes = segmenter.scores, segmenter.probabilities[1:]
    segmenter.step(frames[2])
    assert tuple(scores) == segmenter.object_ids
    for score, plane in zip(scores.values(), planes, strict=True):
        np.testing.assert_allclose(score, plane, atol=1e-6)
    assert abs(segmenter.probabilities[1:] - planes).max() > 1e-3
