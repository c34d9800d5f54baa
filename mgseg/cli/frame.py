"""`mgseg frame`: flags only; the work is `mgseg.files.stills.write_still`."""

from pathlib import Path
from typing import Annotated

import typer

from mgseg.cli import console


def frame(
    clip: Annotated[
        Path, typer.Argument(help="A video file, or a folder of pictures.", metavar="CLIP", show_default=False)
    ],
    number: Annotated[
        int, typer.Argument(help="Number of the frame, counted from 0.", metavar="NUMBER", min=0, show_default=False)
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The PNG to write.", show_default="CLIP_NUMBER.png")
    ] = None,
    mask_overlay: Annotated[
        Path | None,
        typer.Option(
            "--mask-overlay", help="Draw a mask over the frame: a mask file, or the folder that `mgseg segment` wrote."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Save one frame of a clip as a PNG, exactly as `mgseg segment` reads it, to paint a mask on.

    [dim]mgseg frame bunny.mp4 120 -o still.png[/dim]
    """
    from mgseg.files.stills import write_still

    output_path = output or Path(f"{clip.absolute().stem}_{number:05d}.png")
    width, height = write_still(clip, number, output_path, mask_overlay, overwrite=overwrite)
    console.result(str(output_path))
    console.message(
        f"frame {number}, {width}x{height}; to use a mask of this size: mgseg segment CLIP --mask {number}=MASK.png"
    )
