"""Clips of several objects: what sits on another goes with it, look-alikes, hidden patches, first masks a bit wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training_data import make_davis, make_stills

from mgseg.data.attach import attach, split
from mgseg.data.catalog import find_split
from mgseg.data.clips import Clips
from mgseg.data.cutout import Cutout, cut_out
from mgseg.data.scene import ClipBatch, ClipRequest, render
from mgseg.data.stills import Stills
from mgseg.data.transforms import CLIPS, CROWDED_CLIPS, CROWDED_STILLS, STILLS, STM_CLIPS, STM_STILLS, Augmentation
from mgseg.files.masks import VOID
from mgseg.model.network import ModelConfig, MotionGuidedSTM
from mgseg.training.objective import clip_outcome
from mgseg.training.stages import STAGES

REQUEST = ClipRequest(num_frames=3, num_objects=2, size=64, max_skip=2)
BLUE = Cutout(np.full((10, 10, 3), (0, 0, 255), np.uint8), np.ones((10, 10), np.uint8))


def square(left: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((60, 90), np.uint8)
    mask[10 : 10 + side, left : left + side] = 1
    return np.where(mask[..., None] > 0, np.uint8([250, 0, 0]), np.uint8([0, 90, 0])), mask


def test_what_is_attached_moves_and_grows_with_its_carrier() -> None:
    pictures, masks = zip(*(square(left, side) for left, side in ((5, 20), (30, 20), (40, 40))), strict=True)
    before = [mask.copy() for mask in masks]
    for seed in range(10):
        new, labels = attach(np.random.default_rng(seed), pictures, masks, 1, BLUE, 2)
        places, areas = [], []
        for picture, label, mask, side in zip(new, labels, masks, (20, 20, 40), strict=True):
            carried = label == 2
            assert (picture[carried][:, 2] > 120).all()
            assert (picture[(label == 1)][:, 0] > 120).all()
            rows, columns = np.nonzero(carried)
            own_rows, own_columns = np.nonzero(mask)
            places.append(((rows.mean() - own_rows.mean()) / side, (columns.mean() - own_columns.mean()) / side))
            areas.append(carried.sum() / side**2)
        np.testing.assert_allclose(places, [places[0]] * 3, atol=0.05)
        assert areas[1] == pytest.approx(areas[0], abs=0.06)
        assert areas[2] == pytest.approx(areas[0], abs=0.06)
        assert 0.04 < areas[2] < 0.4
    for mask, was in zip(masks, before, strict=True):
        np.testing.assert_array_equal(mask, was)


def test_nothing_is_attached_where_the_carrier_is_gone() -> None:
    picture, mask = square(5, 20)
    _, labels = attach(np.random.default_rng(0), [picture] * 2, [mask, 0 * mask], 1, BLUE, 2)
    assert (labels[0] == 2).any()
    assert not labels[1].any()


def test_a_part_of_an_object_becomes_one() -> None:
    mask = square(5, 20)[1]
    shares = set()
    for seed in range(20):
        labels = split(np.random.default_rng(seed), mask, 1, 2)
        np.testing.assert_array_equal(labels > 0, mask > 0)
        shares.add(float((labels == 2).sum() / mask.sum()))
    assert min(shares) > 0.1
    assert 0.3 < max(shares) <= 0.51


@pytest.fixture
def stills(tmp_path: Path) -> Stills:
    return Stills(make_stills(tmp_path / "stills"))


def test_nested_objects_are_drawn_in_stills_and_in_videos(tmp_path: Path, stills: Stills) -> None:
    videos = find_split("davis16", "train", make_davis(tmp_path / "davis"))
    stills.options = Augmentation(nested=1.0)
    clips = Clips(videos, stills.options, donors=[stills])
    for source in (stills, clips):
        batch = render([source.draw(np.random.default_rng(seed), REQUEST) for seed in range(12)], "cpu")
        shown = [{1, 2} <= set(masks.unique().tolist()) for masks in batch.masks[:, 0]]
        assert sum(shown) >= 10  # now and then nothing of the carrier, or too little, is left to be seen


def test_a_twin_is_the_same_object_next_to_the_other(tmp_path: Path) -> None:
    for number in range(6):  # each object has a colour of its own
        picture, mask = square(20 + 3 * number, 22)
        picture[mask > 0] = (40 * number, 250, 250 - 40 * number)
        for folder, pixels in (("images", picture), ("masks", mask)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    spreads = {}
    for twin in (0.0, 1.0):
        stills = Stills(tmp_path, Augmentation(paste=1.0, twin=twin))
        batch = render([stills.draw(np.random.default_rng(seed), REQUEST) for seed in range(20)], "cpu")
        first, mask = batch.images[:, 0, 0], batch.masks[:, 0]
        pairs = [(first[i][mask[i] == 1], first[i][mask[i] == 2]) for i in range(20)]
        spreads[twin] = [abs(float(one.median() - two.median())) for one, two in pairs if len(one) and len(two)]
        assert len(spreads[twin]) >= 10
    assert max(spreads[1.0]) < 0.02
    assert max(spreads[0.0]) > 0.3


def test_an_object_that_another_one_hides_wholly_is_no_twin(tmp_path: Path) -> None:
    """The smaller of two objects that touch lies under what is put on the larger one, now and then."""
    mask = square(20, 40)[1]
    mask[28:33, 38:43] = 2
    save = {"images": np.uint8([[[0]], [[200]], [[90]]])[mask].repeat(3, -1), "masks": mask}
    for folder, pixels in save.items():
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels.squeeze()).save(tmp_path / folder / "0.png")
    stills = Stills(tmp_path, Augmentation(nested=1.0, paste=1.0, twin=1.0))
    scenes = [stills.draw(np.random.default_rng(seed), replace(REQUEST, num_objects=4)) for seed in range(300)]
    shown = [set(np.unique(scene.layers[0].masks).tolist()) for scene in scenes]
    assert any({2, 3} <= slots and 1 not in slots for slots in shown)  # the first of two is hidden by the third


def test_hidden_patches_are_ignored_but_in_the_first_mask(stills: Stills) -> None:
    seen = {}
    for hide in (0.0, 1.0):
        stills.options = Augmentation(hide=hide)
        seen[hide] = render([stills.draw(np.random.default_rng(seed), REQUEST) for seed in range(8)], "cpu")
    plain, hidden = seen[0.0], seen[1.0]
    changed = (plain.images != hidden.images).any(2)  # (B, T, size, size)
    assert changed.flatten(2).any(2).all()
    assert torch.equal(plain.masks[:, 0], hidden.masks[:, 0])
    assert (hidden.masks[:, 1:][changed[:, 1:]] == VOID).all()
    same = ~changed
    assert torch.equal(plain.masks[same], hidden.masks[same])


def test_a_first_mask_is_a_little_wrong_and_the_truth_stays(stills: Stills) -> None:
    stills.options = Augmentation(slip=1.0)
    batch = render([stills.draw(np.random.default_rng(seed), REQUEST) for seed in range(12)], "cpu")
    wrong, right = batch.given == 1, batch.masks[:, 0] == 1
    overlap = (wrong & right).sum((1, 2)) / (wrong | right).sum((1, 2))
    assert (overlap < 1).sum() >= 10
    assert overlap.mean() > 0.8
    stills.options = Augmentation()
    batch = render([stills.draw(np.random.default_rng(0), REQUEST)], "cpu")
    assert torch.equal(batch.given, batch.masks[:, 0])


def test_the_network_is_given_the_wrong_mask_and_learns_the_right_ones() -> None:
    torch.manual_seed(0)
    model = MotionGuidedSTM(ModelConfig("mobilenet_v2", key_dim=8, value_dim=16, decoder_dim=8)).train()
    masks = torch.zeros(1, 2, 64, 64, dtype=torch.uint8)
    masks[:, :, 10:40, 10:40] = 1
    images = torch.rand(1, 2, 3, 64, 64)
    right = ClipBatch(images, masks, masks[:, 0], 1, ["clip"])
    losses = [
        float(clip_outcome(model, batch, 1.0, 0.0).loss.detach())
        for batch in (
            right,
            replace(right, given=masks[:, 0].roll(20, 2)),
            replace(right, masks=torch.stack([masks[:, 0].roll(20, 2), masks[:, 1]], 1)),
        )
    ]
    assert losses[1] != losses[0]  # what is given counts
    assert losses[2] == losses[0]  # and the first of the true masks does not


def test_the_other_presets_have_none_of_it() -> None:
    new = ("nested", "twin", "hide", "slip")
    for options in (STM_STILLS, STM_CLIPS, STILLS, CLIPS):
        assert [getattr(options, name) for name in new] == [0, 0, 0, 0]
    for options in (CROWDED_STILLS, CROWDED_CLIPS):
        assert min(getattr(options, name) for name in new) > 0
    assert {preset: config["clips"].augmentation for preset, config in STAGES.items()} == {
        "faithful": "stm",
        "fast": "strong",
        "crowded": "crowded",
    }


def test_a_cut_out_is_cut_to_its_box() -> None:
    picture, mask = square(5, 20)
    cutout = cut_out(picture, mask, 1)
    assert cutout.mask.shape == (20, 20)
    assert cutout.mask.all()
    assert (cutout.picture == (250, 0, 0)).all()
