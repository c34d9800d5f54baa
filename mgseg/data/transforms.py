"""The random numbers of a training clip: warps that move from frame to frame, colours, blur; NumPy only.

`Augmentation` holds the settings, its presets side by side at the end of this file.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from mgseg.data.scene import BoolArray, FloatArray, Look

# Points of a warp along each side. Nine follow the smooth fields drawn here to a fraction of a pixel.
GRID_POINTS = 9
# Control points of the elastic field along each side: bends of a third of the crop, no ripples.
ELASTIC_POINTS = 4
HIDDEN_CELLS = 12  # along each side of the crop
_SLIP = 0.012  # deviation of a first mask that is a little wrong, in crop sides


@dataclass(frozen=True)
class Motion:
    """Ranges of a layer's pose: uniform in the first frame, or the deviation of the walk's step from frame to frame.

    Attributes:
        shift: in crop sides. rotation: degrees. scale: natural logarithm. shear: tangent. elastic: in crop sides.
    """

    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0

    def ranges(self) -> FloatArray:
        rotation = np.deg2rad(self.rotation)
        return np.array([self.shift, self.shift, rotation, self.scale, self.scale, self.shear], np.float32)


@dataclass(frozen=True)
class Augmentation:
    """How training clips are made; probabilities are per clip.

    Attributes:
        start, step: pose of the full picture in the first frame, and its walk.
        paste_step: walk of pasted objects.
        resize: the square crop is cut out of the picture resized to a shorter side between the crop's and this one.
        flip: probability of a mirrored picture.
        choose: follow a random number of the objects that there is room for, instead of all.
        paste: probability that each free slot is filled with an object of another picture.
        occluder: probability of a pasted object that belongs to the background.
        behind: probability that pasted objects pass behind the picture's own objects.
        replace: probability that the picture's own objects become background, where a pasted one takes their place.
        reverse: probability that the frames of a video come in reverse order.
        nested: probability, where there is room for two, that an object of another picture sits on one of the picture's
            own and goes with it, or that a part of that one is an object of its own.
        twin: probability that a pasted object is the one before it once more, next to it; the first: the picture's own.
        hide: probability that patches of the frames are hidden, whose pixels then say nothing but in the first mask.
        slip: probability that the first mask is a little wrong.
        leave: probability that a pasted object leaves and comes back (of three frames, it misses the second).
        brightness, contrast, saturation, tint: ranges of the colour change of a clip; frames differ by a quarter of it.
        grey: probability of a clip without colour.
        compress: probability of JPEG artefacts in the full picture.
        blur, motion_blur, noise: probabilities.
    """

    start: Motion = Motion()
    step: Motion = Motion()
    paste_step: Motion = Motion()
    resize: int = 480
    flip: float = 0.5
    choose: bool = False
    paste: float = 0.0
    occluder: float = 0.0
    behind: float = 0.0
    replace: float = 0.0
    reverse: float = 0.0
    nested: float = 0.0
    twin: float = 0.0
    hide: float = 0.0
    slip: float = 0.0
    leave: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    tint: float = 0.0
    grey: float = 0.0
    compress: float = 0.0
    blur: float = 0.0
    motion_blur: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        ranges = ("start", "step", "paste_step", "resize", "brightness", "contrast", "saturation", "tint")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ranges and not 0 <= value <= 1:
                raise ValueError(f"{field.name} is a probability, found {value}")


def draw_poses(rng: np.random.Generator, num_frames: int, start: Motion, step: Motion) -> FloatArray:
    """Draw a smooth walk of poses: float32 (T, 6): shift x and y (crop sides), angle, log scale x and y, shear."""
    # Calm and wild clips both: one factor for the whole walk, a third to five thirds of the setting.
    strength = np.exp(rng.uniform(np.log(1 / 3), np.log(5 / 3)))
    poses = np.empty((num_frames, 6), np.float32)
    noise = rng.standard_normal((num_frames, 6))
    pose = rng.uniform(-1, 1, 6) * start.ranges()
    velocity = noise[0]
    for frame in range(num_frames):
        poses[frame] = pose
        pose = pose + velocity * step.ranges() * strength
        # Six tenths of the old velocity, and the new part that keeps its deviation at one.
        velocity = 0.6 * velocity + 0.8 * noise[frame]
    mean = poses[:, 3:5].mean(1, keepdims=True)
    poses[:, 3:5] = mean + 0.3 * (poses[:, 3:5] - mean)  # mostly the same scale along both axes
    return poses


def draw_elastic(rng: np.random.Generator, num_frames: int, start: float, step: float) -> FloatArray:
    """Draw smooth displacement fields: float32 (T, G, G, 2) in crop sides, walking from frame to frame."""
    deviations = np.full(num_frames, step)
    deviations[0] = start
    controls = rng.standard_normal((num_frames, ELASTIC_POINTS, ELASTIC_POINTS, 2)) * deviations[:, None, None, None]
    fine, coarse = np.linspace(0, 1, GRID_POINTS), np.linspace(0, 1, ELASTIC_POINTS)
    basis = np.exp(-(((fine[:, None] - coarse) * (ELASTIC_POINTS - 1) / 0.7) ** 2))
    basis /= basis.sum(1, keepdims=True)
    fields = np.einsum("gi,hj,tijc->tghc", basis, basis, np.cumsum(controls, 0), optimize=True)
    return fields.astype(np.float32)


def warp_grids(
    poses: FloatArray,
    elastic: FloatArray,
    *,
    size: int,
    source: tuple[int, int],
    pivot: tuple[float, float],
    place: tuple[float, float],
    scale: float,
    flip: bool = False,
) -> FloatArray:
    """Compose poses and elastic fields into the grids of a layer.

    Args:
        poses: (T, 6) of `draw_poses`.
        elastic: (T, G, G, 2) of `draw_elastic`.
        size: side of the crop in pixels.
        source: height and width of the source picture.
        pivot: x and y of the source point about which the layer turns, in pixels.
        place: x and y in the crop where the pivot lies before it is shifted, in pixels.
        scale: source pixels per crop pixel.
        flip: mirror the source about the pivot.

    Returns:
        float32 (T, G, G, 2), see `Layer.grids`.
    """
    line = 0.5 + np.linspace(0, size - 1, GRID_POINTS)
    points = np.stack(np.meshgrid(line, line), -1)  # (G, G, 2) x, y
    shift = poses[:, None, None, :2] * size
    relative = points - place - shift + elastic * size  # (T, G, G, 2)
    cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
    shear = poses[:, 5]
    inverse = np.stack([np.stack([cos, sin], -1), np.stack([shear * cos - sin, shear * sin + cos], -1)], -2)
    inverse = inverse * np.exp(-poses[:, 3:5])[:, :, None] * scale
    if flip:
        inverse[:, 0] *= -1
    turned = np.einsum("tij,tghj->tghi", inverse, relative) + pivot
    height, width = source
    return (turned * (2 / width, 2 / height) - 1).astype(np.float32)


def draw_look(rng: np.random.Generator, num_frames: int, size: int, options: Augmentation) -> Look:
    """Draw colour change, blur and noise of a clip."""
    colour = _draw_colour(rng, num_frames, options)
    dice = rng.random(3)
    kernels = None
    if dice[0] < options.motion_blur:
        kernels = _motion_kernels(rng, num_frames, size)
    elif dice[1] < options.blur:
        kernels = _gauss_kernels(rng, num_frames)
    noise = None
    if dice[2] < options.noise:
        noise = rng.standard_normal((num_frames, size, size), np.float32) * np.float32(rng.uniform(0.01, 0.05))
    return Look(colour, kernels, noise, _draw_hidden(rng, num_frames, options))


def draw_slip(rng: np.random.Generator, options: Augmentation) -> FloatArray | None:
    """Draw how far each part of the first mask is off: float32 (G, G, 2) in crop sides, or None."""
    if not options.slip or rng.random() >= options.slip:
        return None
    return draw_elastic(rng, 1, _SLIP, 0.0)[0]


def _draw_hidden(rng: np.random.Generator, num_frames: int, options: Augmentation) -> BoolArray | None:
    """Draw cells that are hidden, each frame its own, in one clip more and in another less of them; or None."""
    if not options.hide or rng.random() >= options.hide:
        return None
    return rng.random((num_frames, HIDDEN_CELLS, HIDDEN_CELLS)) < rng.uniform(0.05, 0.2)


def _draw_colour(rng: np.random.Generator, num_frames: int, options: Augmentation) -> FloatArray:
    ranges = np.array([options.brightness, options.contrast, options.saturation, *[options.tint] * 3])
    clip = rng.uniform(-1, 1, 6)
    change = (clip + rng.uniform(-0.25, 0.25, (num_frames, 6))) * ranges
    saturation = (1 + change[:, 2]) * (rng.random() >= options.grey)
    contrast = 1 + change[:, 1]
    # Rec. 601 luma, as everywhere where grey is made of RGB.
    luma = np.array([0.299, 0.587, 0.114])
    matrix = saturation[:, None, None] * np.eye(3) + (1 - saturation)[:, None, None] * luma
    matrix = contrast[:, None, None] * (1 + change[:, 3:, None]) * matrix
    offset = 0.5 * (1 - contrast) + change[:, 0]
    return np.concatenate([matrix, np.repeat(offset[:, None, None], 3, 1)], -1).astype(np.float32)


def _gauss_kernels(rng: np.random.Generator, num_frames: int) -> FloatArray:
    axis = np.arange(-3, 4)  # seven taps hold a deviation up to 1.5 px
    deviations = np.clip(rng.uniform(0.4, 1.4) + rng.uniform(-0.3, 0.3, num_frames), 0.3, 1.5)
    line = np.exp(-0.5 * (axis / deviations[:, None]) ** 2)
    line /= line.sum(1, keepdims=True)
    return (line[:, :, None] * line[:, None, :]).astype(np.float32)


def _motion_kernels(rng: np.random.Generator, num_frames: int, size: int) -> FloatArray:
    """Line segments of one direction; each frame has its own length, up to 3 % of the crop (at most 11 px)."""
    longest = min(0.03 * size, 11.0)
    angle = rng.uniform(0, np.pi) + rng.normal(0, 0.2, num_frames)
    length = rng.uniform(0, longest, num_frames)
    radius = int(np.ceil(longest / 2)) + 1
    axis = np.arange(-radius, radius + 1)
    along = np.linspace(-0.5, 0.5, 16)[:, None, None] * (length[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1))
    weights = np.maximum(0, 1 - np.abs(axis - along[..., None]))  # (16, T, 2, k)
    kernels = np.einsum("ptx,pty->tyx", weights[:, :, 0], weights[:, :, 1])
    return (kernels / kernels.sum((1, 2), keepdims=True)).astype(np.float32)


# What this project trains its own weights with on still pictures.
STILLS = Augmentation(
    start=Motion(rotation=15, scale=0.15, shear=0.1, elastic=0.01),
    step=Motion(shift=0.05, rotation=7, scale=0.08, shear=0.04, elastic=0.012),
    paste_step=Motion(shift=0.1, rotation=8, scale=0.08, shear=0.04, elastic=0.01),
    resize=600,
    choose=True,
    paste=0.5,
    occluder=0.25,
    behind=0.3,
    replace=0.15,
    leave=0.15,
    brightness=0.12,
    contrast=0.25,
    saturation=0.3,
    tint=0.06,
    grey=0.03,
    compress=0.15,
    blur=0.1,
    motion_blur=0.15,
    noise=0.1,
)

# The first frame of a clip, to adapt to it: the same without objects of other pictures, and never grey.
FIRST_MASK = replace(STILLS, paste=0, occluder=0, behind=0, replace=0, leave=0, grey=0)

# The same on real clips: their own motion stays, the camera wavers a little.
CLIPS = Augmentation(
    start=Motion(rotation=10, scale=0.1, shear=0.06, elastic=0.008),
    step=Motion(shift=0.015, rotation=2, scale=0.03, shear=0.01, elastic=0.003),
    paste_step=Motion(shift=0.1, rotation=8, scale=0.08, shear=0.04, elastic=0.01),
    resize=600,
    choose=True,
    reverse=0.5,
    paste=0.25,
    occluder=0.15,
    behind=0.3,
    leave=0.15,
    brightness=0.1,
    contrast=0.2,
    saturation=0.2,
    tint=0.05,
    grey=0.02,
    compress=0.1,
    blur=0.05,
    motion_blur=0.05,
    noise=0.05,
)

# The same for clips of several objects: some on others, some alike, parts hidden, first masks a little wrong; and more
# motion of the camera, for videos of fixed ones.
CROWDED_STILLS = replace(
    STILLS,
    step=replace(STILLS.step, scale=0.12),
    paste=0.75,
    nested=0.35,
    twin=0.25,
    hide=0.15,
    slip=0.2,
    motion_blur=0.2,
)
CROWDED_CLIPS = replace(
    CLIPS,
    step=Motion(shift=0.035, rotation=3, scale=0.05, shear=0.015, elastic=0.003),
    paste=0.5,
    nested=0.35,
    twin=0.25,
    hide=0.15,
    slip=0.2,
    motion_blur=0.1,
)

# STM's recipe (Oh et al. 2019, section 3.2; ranges are ours where the paper is silent): affine warps, no pasting.
STM_STILLS = Augmentation(
    start=Motion(rotation=20, scale=0.1, shear=0.1),
    step=Motion(shift=0.05, rotation=10, scale=0.08, shear=0.05),
    brightness=0.1,
    contrast=0.1,
    saturation=0.1,
)
STM_CLIPS = Augmentation(
    start=Motion(rotation=10, scale=0.1, shear=0.05),
    step=Motion(rotation=1, scale=0.01),
    brightness=0.1,
    contrast=0.1,
    saturation=0.1,
)
