"""Scene cuts: found where a clip shows another scene, and not where things move."""

import numpy as np
import pytest

from mgseg.segment.cuts import CutDetector


def scene(seed: int, num_frames: int, speed: int) -> list[np.ndarray]:
    """A coarse random picture that moves to the side, uint8 (90, 160, 3)."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, 3)
    picture = np.clip(rng.normal(colours, 50, (12, 40, 3)), 0, 255).astype(np.uint8)
    wide = np.kron(picture, np.ones((8, 8, 1), np.uint8))
    return [np.roll(wide, -speed * t, axis=1)[:90, :160] for t in range(num_frames)]


@pytest.mark.parametrize("speed", [0, 2, 6])
def test_a_cut_is_found_and_motion_is_none(speed):
    for seed in range(5):
        detector = CutDetector()
        clip = scene(seed, 12, speed) + scene(seed + 100, 9, speed)
        assert [t for t, frame in enumerate(clip) if detector.is_cut(frame)] == [12]


def test_tiny_frames_and_single_ones_are_no_matter():
    detector = CutDetector()
    assert not detector.is_cut(np.zeros((1, 1, 3), np.uint8))
    assert detector.is_cut(np.full((1, 1, 3), 255, np.uint8))
