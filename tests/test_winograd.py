"""Convolutions computed by tiles equal torch's own, and so do their gradients and the network made of them."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mgseg.model.fast.prepare import prepare_for_inference
from mgseg.model.fast.winograd import WinogradConv2d, conv3x3, order_kernels, use_winograd
from mgseg.model.network import ModelConfig, MotionGuidedSTM

pytestmark = pytest.mark.numeric

# (B, C, D, H, W): one tile row or many, sides that are no multiple of 4, several small maps in a block, blocks cut off,
# channels in pieces: kernels made anew for each block and kept for all, of several pieces of the output, too
SHAPES = [
    (1, 128, 128, 13, 17),
    (2, 160, 128, 40, 61),
    (9, 128, 130, 16, 12),
    (1, 129, 128, 4, 120),
    (1, 1024, 192, 3, 9),
    (1, 1024, 192, 30, 60),
    (1, 512, 128, 30, 60),
    (2, 300, 260, 30, 60),
]


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return ((found - exact).abs().max() / exact.abs().max()).item()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients_equal_torch_s_in_float64(shape, memory_format):
    batch, channels, out_channels, height, width = shape
    torch.manual_seed(0)
    x = torch.randn(batch, channels, height, width).to(memory_format=memory_format)
    weight, bias = torch.randn(out_channels, channels, 3, 3) / 30, torch.randn(out_channels)
    outer = torch.randn(batch, out_channels, height, width)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    found = conv3x3(*leaves)
    assert found.grad_fn.name() == "_WinogradBackward"
    exact_leaves = [t.detach().double().requires_grad_() for t in leaves]
    exact = F.conv2d(*exact_leaves, padding=1)
    assert relative_error(found.detach(), exact.detach()) < 5e-6
    gradients = torch.autograd.grad(found, leaves, outer), torch.autograd.grad(exact, exact_leaves, outer.double())
    for ours, theirs in zip(*gradients, strict=True):
        assert relative_error(ours, theirs) < 5e-6


@pytest.mark.parametrize("shape", [(1, 128, 128, 13, 17), (2, 128, 128, 40, 60), (1, 128, 128, 8, 8)])
def test_relu_and_sum_within_the_convolution_equal_those_around_it(shape):
    batch, channels, out_channels, height, width = shape
    torch.manual_seed(0)
    x = torch.randn(batch, channels, height, width)
    weight, bias = torch.randn(out_channels, channels, 3, 3) / 30, torch.randn(out_channels)
    onto = torch.randn(batch, out_channels, height, width).to(memory_format=torch.channels_last)
    exact = onto.double() + F.conv2d(x.relu().double(), weight.double(), bias.double(), padding=1)
    before = x.clone()
    assert relative_error(conv3x3(x, weight, bias, rectify=True, onto=onto.clone()), exact) < 5e-6  # in training
    with torch.inference_mode():
        assert relative_error(conv3x3(x, weight, bias, rectify=True, onto=onto), exact) < 5e-6
    torch.testing.assert_close(x, before, rtol=0, atol=0)


def test_other_precisions_are_torch_s_to_the_bit():
    torch.manual_seed(0)
    weight = torch.randn(128, 256, 3, 3)
    x = torch.randn(1, 256, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(conv3x3(x, weight.to(x)), F.conv2d(x, weight.to(x), padding=1), rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv3x3(torch.randn(1, 256, 32, 32), weight).dtype == torch.bfloat16


def test_only_wide_3x3_convolutions_of_stride_1_are_taken_and_nothing_is_renamed():
    convs = {
        "taken": nn.Conv2d(128, 128, 3, padding=1),
        "narrow": nn.Conv2d(128, 64, 3, padding=1),
        "strided": nn.Conv2d(128, 128, 3, padding=1, stride=2),
        "pointwise": nn.Conv2d(128, 128, 1),
        "unpadded": nn.Conv2d(128, 128, 3),
        "dilated": nn.Conv2d(128, 128, 3, padding=1, dilation=2),
        "grouped": nn.Conv2d(256, 256, 3, padding=1, groups=2),
        "reflecting": nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"),
    }
    module = nn.Sequential(nn.ModuleDict(convs))
    before = dict(module.named_parameters())
    use_winograd(module)
    after = dict(module.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert [name for name, conv in module[0].items() if isinstance(conv, WinogradConv2d)] == ["taken"]


def test_ordered_kernels_are_the_same_kernels():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(130, 128, 3, padding=1), nn.Conv2d(128, 130, 1))
    before = copy.deepcopy(module.state_dict())
    order_kernels(module)
    assert module[0].weight.permute(2, 3, 1, 0).is_contiguous()  # what a change of basis reads, row by row
    assert module[1].weight.is_contiguous()
    torch.testing.assert_close(dict(module.state_dict()), dict(before), rtol=0, atol=0)
    x = torch.randn(1, 130, 9, 9)
    with torch.inference_mode():
        found = conv3x3(x, module[0].weight, module[0].bias)
        torch.testing.assert_close(found, conv3x3(x, before["0.weight"], before["0.bias"]), rtol=0, atol=1e-4)


def test_the_network_made_ready_computes_what_the_plain_one_does():
    torch.manual_seed(0)
    model = MotionGuidedSTM(ModelConfig(key_dim=16, value_dim=128, decoder_dim=128)).eval()
    ready = prepare_for_inference(copy.deepcopy(model))
    assert sum(isinstance(module, WinogradConv2d) for module in ready.modules()) > 20
    image, masks = torch.rand(1, 3, 128, 192), torch.rand(1, 2, 128, 192) / 2
    previous = (masks > 0.25).float()
    with torch.inference_mode():
        outputs = []
        for network in (model, ready):
            keys, values = (x.flatten(3) for x in network.encode_memory(image, masks))
            outputs.append(network.segment(image.flip(3), keys, values, previous))
    # either is off by 8e-4 of logits up to 16, compared with float64
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=2e-3)
