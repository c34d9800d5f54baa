"""Reading in chunks is exact; the bank keeps the frames that the rule names, in bounded storage."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mgseg.model.memory import MemoryBank, read_memory

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("max_elements", [1, 50, 10**9])
def test_read_in_chunks_equals_attention_over_the_whole_map(max_elements):
    torch.manual_seed(0)
    query = torch.rand(2, 8, 3, 5).double() * 6
    keys, values = torch.rand(2, 3, 8, 45).double() * 6, torch.rand(2, 3, 7, 45).double()
    whole = (keys.transpose(-1, -2) @ query.flatten(2).unsqueeze(1) / math.sqrt(8)).softmax(dim=2)  # (B, N, L, hw)
    expected = (values @ whole).unflatten(-1, (3, 5))
    torch.testing.assert_close(read_memory(query, keys, values, max_elements), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("needs_graph", [False, True])
def test_a_bias_of_log_2_counts_a_position_twice(needs_graph):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 8, 3, 4, generator=generator, requires_grad=needs_graph)
    keys, values = (torch.randn(1, 2, dim, 20, generator=generator) for dim in (8, 5))
    bias = torch.zeros(1, 1, 20)
    bias[..., 5:10] = math.log(2)
    twice = [torch.cat((x, x[..., 5:10]), dim=-1) for x in (keys, values)]
    torch.testing.assert_close(read_memory(query, keys, values, 50, bias), read_memory(query, *twice))


def test_weights_too_small_to_count_are_zero_and_the_rest_is_as_it_was():
    torch.manual_seed(0)
    query, keys, values = torch.randn(1, 8, 9, 5) * 6, torch.randn(1, 1, 8, 135) * 6, torch.rand(1, 1, 7, 135)
    whole = (keys.transpose(-1, -2) @ query.flatten(2).unsqueeze(1) / math.sqrt(8)).softmax(dim=2)
    assert ((whole > 0) & (whole < torch.finfo(torch.float32).tiny)).any()  # the denormal numbers in question
    expected = (values @ whole).unflatten(-1, (9, 5))
    torch.testing.assert_close(read_memory(query, keys, values), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("sharpness", "share"), [(0.1, 1.0), (200.0, 0.5)])
def test_what_no_query_looks_at_is_left_out_and_changes_nothing(sharpness, share):
    torch.manual_seed(0)
    query = torch.randn(2, 8, 4, 4).double()  # few queries, so that many positions of 500 are looked at by none
    keys, values = torch.randn(2, 1, 8, 500).double() * sharpness, torch.rand(2, 1, 7, 500).double()
    whole = (keys.transpose(-1, -2) @ query.flatten(2).unsqueeze(1) / math.sqrt(8)).softmax(dim=2)
    with FlopCounterMode(display=False) as counter:
        found = read_memory(query, keys, values)
    torch.testing.assert_close(found, (values @ whole).unflatten(-1, (4, 4)), rtol=0, atol=1e-12)
    of_keys, of_values = (2 * 2 * 16 * 500 * dim for dim in (8, 7))
    assert counter.get_total_flops() - of_keys <= share * of_values
    assert (counter.get_total_flops() - of_keys == of_values) == (share == 1)


@pytest.mark.parametrize("where", ["query", "keys", "values"])
def test_what_is_not_a_number_stays_so(where):
    torch.manual_seed(0)
    inputs = {
        "query": torch.randn(1, 8, 4, 4),
        "keys": 200 * torch.randn(1, 1, 8, 500),
        "values": torch.rand(1, 1, 7, 500),
    }
    if where == "values":
        best = (inputs["keys"][0, 0].T @ inputs["query"][0, :, 0, 0]).argmax()
        inputs[where][0, 0, :, best] = math.nan
    else:
        inputs[where].flatten()[0] = math.nan
    assert read_memory(inputs["query"], inputs["keys"], inputs["values"])[..., 0, 0].isnan().any()


def fill(bank: MemoryBank, frames: int, given: tuple[int, ...] = (0,)) -> list[set[int]]:
    """Add frames whose key says their number; return what each next frame would read."""
    seen = []
    for t in range(frames):
        bank.add(t, torch.full((1, 2, 3, 4), float(t)), torch.full((1, 5, 3, 4), float(t)), given=t in given)
        keys, values = bank.read_views()
        assert keys.shape[-1] == values.shape[-1] == 12 * len(bank)
        per_frame = keys.unflatten(-1, (-1, 12))
        assert (per_frame == per_frame[..., :1]).all()  # no frame is torn
        seen.append({int(x) for x in per_frame[0, 0, :, 0]})
    return seen


def test_memory_holds_the_first_every_fifth_and_the_previous_frame():
    for t, frames in enumerate(fill(MemoryBank(5, 0), 33)):
        assert frames == {*range(0, t + 1, 5), t}


def test_given_masks_are_kept_for_ever_and_bounded_frames_beside_them():
    bank = MemoryBank(memory_every=2, memory_size=3)
    seen = fill(bank, 200, given=(0, 7, 8, 90))
    assert {0, 7, 8, 90, 199} <= seen[-1]
    assert len(seen[-1]) == 4 + 3 + 1
    assert max(len(frames) for frames in seen) <= 4 + 3 + 1


@pytest.mark.parametrize("size", [1, 2, 5, 10])
def test_what_stays_is_spread_evenly_over_the_past(size):
    seen = fill(MemoryBank(memory_every=5, memory_size=size), 1000)
    for t in (300, 555, 999):
        times = sorted(seen[t])[:-1]  # without the previous frame
        gaps = [b - a for a, b in zip(times, [*times[1:], t], strict=True)]
        assert max(gaps) <= 4.1 * t / (size + 1)


def test_storage_does_not_grow_with_the_clip():
    bank = MemoryBank(memory_every=5, memory_size=4)
    fill(bank, 30)
    storage = bank.read_views()[0].untyped_storage()
    pointer, size = storage.data_ptr(), storage.nbytes()
    for t in range(30, 300):
        bank.add(t, torch.zeros(1, 2, 3, 4), torch.zeros(1, 5, 3, 4))
    storage = bank.read_views()[0].untyped_storage()
    assert (storage.data_ptr(), storage.nbytes()) == (pointer, size)
    assert size == 4 * 2 * 12 * (4 + 2)
