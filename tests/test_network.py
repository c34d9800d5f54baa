"""The network's cheap forms equal the plain textbook form; published STM checkpoints give STM's own masks."""

import pytest
import torch
from stm_restatement import STM

from mgseg.model import decoder, reference
from mgseg.model.decoder import joint_probabilities, soft_aggregate
from mgseg.model.fast.prepare import prepare_for_inference
from mgseg.model.network import ModelConfig, MotionGuidedSTM, other_objects, pad_to_stride, unpad

pytestmark = pytest.mark.numeric

CONFIGS = [
    ModelConfig(trunk="mobilenet_v2", key_dim=8, value_dim=12, decoder_dim=6),
    ModelConfig(trunk="resnet50", stride_in_1x1=True, key_dim=8, value_dim=12, decoder_dim=6, motion_prior=False),
]


def random_model(config: ModelConfig, seed: int = 0) -> MotionGuidedSTM:
    """A float64 model whose batch norms and biases are not trivial."""
    torch.manual_seed(seed)
    model = MotionGuidedSTM(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    model.decoder.predict.weight.data *= 0.1  # so that no probability is rounded to 1 in float32
    return model.double().eval()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.trunk)
@torch.inference_mode()
def test_shared_and_chunked_forms_equal_the_plain_form_in_float64(config):
    model = random_model(config)
    image, masks = torch.rand(1, 3, 64, 96).double(), torch.rand(1, 3, 64, 96).double() / 3
    previous = (torch.rand(1, 3, 64, 96) > 0.7).double()
    previous[:, 2] = 0  # an object that is out of sight
    plain_keys, plain_values = reference.encode_memory(model, image, masks[0])
    keys, values = model.encode_memory(image, masks)
    torch.testing.assert_close(keys[0], plain_keys, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(values[0], plain_values, rtol=1e-12, atol=1e-12)

    frame = torch.rand(1, 3, 64, 96).double()
    logits = model.segment(frame, keys.flatten(3).repeat(1, 1, 1, 2), values.flatten(3).repeat(1, 1, 1, 2), previous)
    plain = reference.segment(
        model,
        frame,
        plain_keys.unsqueeze(2).repeat(1, 1, 2, 1, 1),
        plain_values.unsqueeze(2).repeat(1, 1, 2, 1, 1),
        previous[0],
    )
    torch.testing.assert_close(logits.softmax(1)[0].double(), plain, rtol=0, atol=1e-6)  # joined in float32


@torch.inference_mode()
def test_a_batch_of_clips_equals_the_clips_one_by_one():
    model = random_model(CONFIGS[0])
    image, masks = torch.rand(2, 3, 48, 64).double(), torch.rand(2, 2, 48, 64).double() / 2
    previous = (masks > 0.25).double()
    keys, values = (x.flatten(3) for x in model.encode_memory(image, masks))
    together = model.segment(image, keys, values, previous)
    for i in range(2):
        one = slice(i, i + 1)
        alone = model.segment(image[one], keys[one], values[one], previous[one])
        torch.testing.assert_close(together[one], alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("rows", "of_halves"), [(1, [4]), (2, [8, 8]), (3, [8, 12]), (8, [20, 20])])
@pytest.mark.parametrize("dim", [16, 128])  # by torch's convolutions and by tiles
@torch.inference_mode()
def test_large_maps_are_decoded_in_halves_as_they_are_whole(rows, of_halves, dim, monkeypatch):
    torch.manual_seed(0)
    config = ModelConfig(trunk="mobilenet_v2", key_dim=8, value_dim=16, decoder_dim=dim)
    network = prepare_for_inference(MotionGuidedSTM(config).eval())
    heights = []
    network.decoder.predict.register_forward_pre_hook(lambda _, maps: heights.append(maps[0].shape[2]))
    query, readout = network.encode_query(torch.rand(1, 3, 16 * rows, 48)), torch.randn(1, 2, 16, rows, 3)
    whole = network.decode(query, readout)
    monkeypatch.setattr(decoder, "HALVED_FROM", 0)
    halves = network.decode(query, readout)
    assert heights == [4 * rows, *of_halves]
    torch.testing.assert_close(halves, whole, rtol=0, atol=1e-6)


def test_soft_aggregation_is_the_normalised_odds():
    prob = torch.tensor([0.9, 0.3]).view(1, 2, 1, 1)
    odds = torch.tensor([0.1 * 0.7 / (1 - 0.1 * 0.7), 9.0, 3 / 7])
    for joint in (soft_aggregate(prob.logit()).softmax(dim=1), joint_probabilities(prob.logit())):
        torch.testing.assert_close(joint.flatten(), odds / odds.sum())


def test_others_are_the_clamped_sum_of_the_other_objects():
    masks = torch.tensor([0.5, 0.75, 0.5]).view(1, 3, 1, 1)
    torch.testing.assert_close(other_objects(masks).flatten(), torch.tensor([1.0, 1.0, 1.0]))
    torch.testing.assert_close(other_objects(masks[:, :2]).flatten(), torch.tensor([0.75, 0.5]))


@pytest.mark.parametrize("size", [(480, 854), (16, 16), (17, 31)])
def test_padding_is_centred_with_the_smaller_half_first_and_comes_off_again(size):
    x = torch.rand(1, 3, *size)
    padded, padding = pad_to_stride(x)
    assert all(length % 16 == 0 for length in padded.shape[-2:])
    assert 0 <= padding.right - padding.left <= 1
    assert 0 <= padding.bottom - padding.top <= 1
    assert torch.equal(unpad(padded, padding), x)
    assert padded.sum() == pytest.approx(x.sum().item(), rel=1e-5)


def test_batch_norm_stays_frozen_in_training():
    model = random_model(CONFIGS[0]).train()
    assert model.training
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)


def test_every_parameter_gets_a_gradient():
    model = random_model(CONFIGS[0]).float().train()
    image, masks = torch.rand(1, 3, 32, 48), (torch.rand(1, 2, 32, 48) > 0.5).float()
    keys, values = (x.flatten(3) for x in model.encode_memory(image, masks))
    model.segment(image, keys, values, masks).square().mean().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_the_paper_s_network_has_the_parameters_of_stm_and_the_prior_s():
    model = MotionGuidedSTM(ModelConfig())
    prior = sum(p.numel() for p in model.motion_prior.parameters())
    assert prior == 2 * (129 * 9 + 1)
    theirs = sum(p.numel() for p in STM().parameters())
    assert sum(p.numel() for p in model.parameters()) == theirs + prior


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.trunk)
@torch.inference_mode()
def test_a_network_made_ready_for_inference_computes_the_same_without_batch_norm(config):
    model = random_model(config)
    image, masks = torch.rand(1, 3, 64, 96).double(), torch.rand(1, 2, 64, 96).double() / 2
    before = [*model.encode_memory(image, masks), *model.encode_query(image).terms]
    prepare_for_inference(model)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    after = [*model.encode_memory(image, masks), *model.encode_query(image).terms]
    for x, y in zip(before, after, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("config", "of_trunk"), [(CONFIGS[0], torch.float32), (CONFIGS[1], torch.float16)])
@torch.inference_mode()
def test_in_half_precision_mobilenet_stays_in_float32_and_resnet_does_not(config, of_trunk):
    model = random_model(config).float()
    image, masks = torch.rand(1, 3, 64, 96), torch.rand(1, 2, 64, 96)

    def encode_memory():
        return model.memory_encoder(model.memory_encoder.stem_of_image(image), masks, other_objects(masks))

    exact = encode_memory()
    with torch.autocast("cpu", torch.float16):
        features = model.query_encoder(image)
        of_memory = encode_memory()
        assert {x.dtype for x in (*features, of_memory)} == {of_trunk}
        assert model.query_key_value(features.feat16)[0].dtype == torch.float16
    assert of_memory.equal(exact) == (of_trunk == torch.float32)
