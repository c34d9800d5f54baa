"""One frame of a clip as a picture, to paint a mask on."""

from pathlib import Path

from PIL import Image

from mgseg.errors import InputError, OutputError
from mgseg.files.masks import DAVIS_PALETTE, read_mask
from mgseg.files.overlay import draw_overlay
from mgseg.files.pictures import write_png
from mgseg.files.video import open_clip


def write_still(
    clip: Path, number: int, output: Path, mask: Path | None = None, *, overwrite: bool = False
) -> tuple[int, int]:
    """Write a frame as it is segmented: upright, at full size, in PNG.

    Args:
        clip: see `open_clip`.
        number: number of the frame, from 0.
        output: the PNG.
        mask: a mask to show over the frame, or a folder of masks by frame name; None for the plain frame.
        overwrite: replace a file that is there.

    Returns:
        Its width and height.

    Raises:
        InputError: there is no such frame, or no mask of it.
        OutputError: the output exists, is not a PNG, or cannot be written.
    """
    if output.suffix.lower() != ".png":
        raise OutputError(
            f"{output} is not a PNG", "use a name that ends in .png: a JPEG would blur the edges of what you paint"
        )
    if output.exists() and not overwrite:
        raise OutputError(f"{output} already exists", "replace it with --overwrite")
    with open_clip(clip) as source:
        frame = next(source.frames(number, number + 1), None)
    if frame is None:
        raise InputError(f"{clip} has no frame {number}", "frames are counted from 0")
    image = frame.image
    if mask is not None:
        path = mask / f"{frame.name}.png" if mask.is_dir() else mask
        if not path.is_file():
            raise InputError(f"frame {number} has no mask: there is no file {path}")
        try:
            found = read_mask(path, size=image.shape[:2], may_be_empty=True)
        except InputError as error:
            hint = error.hint or ""
            is_option = "--" in hint  # of `mgseg segment`, which `mgseg frame` does not have
            raise InputError(str(error), f"in mgseg segment: {hint}" if is_option else hint or None) from error
        image = draw_overlay(image, found.mask, found.palette or DAVIS_PALETTE)
    write_png(output, Image.fromarray(image))
    return image.shape[1], image.shape[0]
