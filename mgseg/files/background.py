"""Background behind the objects of a matte: a colour, a picture, or the blurred frame."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps

from mgseg.errors import InputError
from mgseg.files.guided_filter import box_mean, resize
from mgseg.files.pictures import read_picture

U8 = NDArray[np.uint8]

BLUR = "blur"
_SHRINK = 8  # a blur is computed at an eighth of the size
_BLUR_RADIUS = 24  # of the boxes, as a part of the shorter side


class Background:
    """A background, read and checked once.

    Args:
        wanted: "blur"; a picture's path; or a colour by name or as #rrggbb.
        size: (height, width) of the clip; a picture is scaled and cut to fill it.

    Raises:
        InputError: the text is not a colour, a picture or blur, or the picture cannot be read.
    """

    def __init__(self, wanted: str | Path, size: tuple[int, int]) -> None:
        self._plane: U8 | None = None
        if str(wanted) == BLUR:
            return
        if Path(wanted).is_file():
            picture = Image.fromarray(read_picture(Path(wanted)))
            self._plane = np.asarray(ImageOps.fit(picture, (size[1], size[0])))
            return
        try:
            colour = ImageColor.getrgb(str(wanted))[:3]
        except ValueError as error:
            hint = "for instance --background green, --background '#00b140', --background beach.jpg, --background blur"
            raise InputError(f"the background {wanted} is not an existing picture, a colour or blur", hint) from error
        self._plane = np.full((*size, 3), colour, np.uint8)

    def draw(self, frame: U8, alpha: NDArray[np.float32]) -> U8:
        """Return the background of a frame, uint8 (H, W, 3) RGB."""
        return _blur(frame, alpha) if self._plane is None else self._plane


def _blur(frame: U8, alpha: NDArray[np.float32]) -> U8:
    """The weighted mean of the frame around each pixel, to which the objects do not contribute."""
    height, width = alpha.shape
    small = (max(1, width // _SHRINK), max(1, height // _SHRINK))  # Pillow's order
    behind = 1 - alpha + np.float32(1e-4)  # avoids a division by zero
    colours, weights = resize(frame * behind[..., None], small), resize(behind, small)
    for _ in range(3):  # three boxes are nearly a Gaussian
        radius = max(1, min(small) // _BLUR_RADIUS)
        colours, weights = box_mean(colours, radius), box_mean(weights, radius)
    blurred = (colours / weights[..., None] + 0.5).astype(np.uint8)
    return np.asarray(Image.fromarray(blurred).resize((width, height), Image.Resampling.BICUBIC))
