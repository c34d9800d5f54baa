"""Schedules, learning rate, clock, and the stages that are made of them."""

import pytest

from mgseg.errors import MgsegError
from mgseg.training.batches import plan_step
from mgseg.training.schedule import Clock, Schedule, rate_factor
from mgseg.training.stages import STAGES, configure


def test_a_schedule_holds_its_values_or_goes_in_a_straight_line() -> None:
    crop = Schedule.parse("192,256@0.4,384@0.8")
    assert [crop.at(p) for p in (0, 0.39, 0.4, 0.79, 0.8, 1, 2)] == [192, 192, 256, 256, 384, 384, 384]
    share = Schedule.parse("0.1..0.5")
    assert [share.at(p) for p in (-1, 0, 0.25, 1, 2)] == pytest.approx([0.1, 0.1, 0.2, 0.5, 0.5])
    assert Schedule.parse("7").at(0.6) == 7


def test_a_size_that_grows_along_a_line_stays_one_that_the_network_takes() -> None:
    config = configure("clips", "fast", {"size": "192..384"})
    sizes = [plan_step(config, 0, step, step / 20).request.size for step in range(21)]
    assert sizes[0] == 192
    assert sizes[-1] == 384
    assert sizes == sorted(sizes)
    assert {size % 16 for size in sizes} == {0}


def test_the_faithful_stages_have_room_for_every_object_up_to_three() -> None:
    for stage in ("static", "clips"):
        assert {plan_step(STAGES["faithful"][stage], 0, step, 0).request.num_objects for step in range(30)} == {3}


@pytest.mark.parametrize("text", ["", "192,256", "192,256@0.8,384@0.4", "192,256@2", "a..b", "1..2..3", "x@0.1"])
def test_a_schedule_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Schedule.parse(text)


def test_the_rate_warms_up_and_falls_along_a_cosine() -> None:
    assert [rate_factor(0, step, 4, cosine=False) for step in (0, 1, 3, 9)] == [0.25, 0.5, 1, 1]
    fall = [rate_factor(p, 99, 4, cosine=True) for p in (0, 0.5, 1, 1.5)]
    assert fall == pytest.approx([1, 0.505, 0.01, 0.01])


def test_the_clock_goes_by_steps_by_time_or_by_what_is_further() -> None:
    times = iter([100.0, 130.0, 130.0, 130.0, 160.0])
    assert Clock(10, None).progress(5) == 0.5
    clock = Clock(None, 1, seconds_before=15, now=lambda: next(times))
    assert clock.progress(1000) == pytest.approx(45 / 60)
    clock.reserve = 10
    assert clock.progress(1000) == pytest.approx(45 / 50)
    both = Clock(10, 1, now=lambda: next(times))
    assert both.progress(9) == pytest.approx(0.9)


def test_a_run_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="ends"):
        Clock(None, None)


def test_the_faithful_preset_has_the_papers_numbers() -> None:
    for stage in ("static", "clips"):
        config = STAGES["faithful"][stage]
        assert (config.optimizer, config.rate, config.batch_size.at(0), config.size.at(0)) == ("adam", 1e-5, 4, 384)
        assert (config.ema, config.jaccard, config.cosine, config.keep.at(1)) == (0, 0, False, 1)
    skip = STAGES["faithful"]["clips"].max_skip
    assert [skip.at(epoch / 260) for epoch in (0, 19, 21, 41, 61, 81, 259)] == [5, 5, 10, 15, 20, 25, 25]


def test_a_stage_can_be_changed_by_text_and_by_value() -> None:
    config = configure("clips", "fast", {"size": "128,256@0.5", "rate": 1e-3, "ema": None})
    assert config.size.at(0.6) == 256
    assert config.rate == 1e-3
    assert config.ema == STAGES["fast"]["clips"].ema


@pytest.mark.parametrize(
    ("stage", "preset", "changes"),
    [
        ("main", "fast", {}),
        ("clips", "quick", {}),
        ("clips", "fast", {"size": "100"}),
        ("clips", "fast", {"num_frames": "1"}),
        ("clips", "fast", {"batch_size": "0"}),
        ("clips", "fast", {"clip_share": "0..2"}),
        ("clips", "fast", {"rate": -1.0}),
        ("clips", "fast", {"batch_size": "4..8"}),
    ],
)
def test_a_stage_that_cannot_be_is_refused(stage: str, preset: str, changes: dict[str, object]) -> None:
    with pytest.raises(MgsegError):
        configure(stage, preset, changes)
