"""Zip files of masks for the evaluation servers, checked before they are written.

DAVIS: SEQUENCE/FRAME.png, every frame. YouTube-VOS: Annotations/VIDEO/FRAME.png, the frames of meta.json.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from mgseg.data.catalog import Split, VideoSequence
from mgseg.errors import DatasetError, InputError
from mgseg.evaluation.scoring import ids_of, result_path
from mgseg.files.masks import VOID, read_index_map
from mgseg.files.whole_file import whole_file

PREFIX = {"davis16": "", "davis17": "", "youtube-vos": "Annotations/"}
DATE = (1980, 1, 1, 0, 0, 0)  # one and the same in every zip: equal masks make equal files


def write_submission(split: Split, results: Path, archive: Path) -> None:
    """Check the masks of a split and write them into the zip that its server takes.

    Args:
        split: what is submitted.
        results: folder of `SEQUENCE/FRAME.png`.
        archive: the zip; appears whole or not at all.

    Raises:
        InputError: a sequence or frame is missing, or a mask is not indexed, of another size, or holds an id that
            was not given.
        DatasetError: see `check_given`.
        OutputError: the zip cannot be written.
    """
    check_given(split)
    files = [pair for sequence in split.sequences for pair in _checked(sequence, split.single_object, results)]
    with whole_file(archive) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as file:  # PNG is deflated already
        for name, path in files:
            entry = zipfile.ZipInfo(PREFIX[split.protocol] + name, DATE)
            entry.external_attr = 0o644 << 16
            file.writestr(entry, path.read_bytes())


def check_given(split: Split) -> None:
    """Check that the masks of a split contain every object that a submission needs.

    Raises:
        DatasetError: a sequence has no mask, or its masks lack an object that meta.json lists.
        InputError: a mask cannot be read.
    """
    for sequence in split.sequences:
        if not sequence.masks:
            raise DatasetError(f"{sequence.name} has no mask that shows its objects")
        missing = set(sequence.promised)
        for path in sequence.masks.values():
            if not missing:
                break
            missing.difference_update(ids_of(read_index_map(path)))
        if missing:
            folder, ids = path.parent, ", ".join(map(str, sorted(missing)))
            hint = "add the missing masks, or use --no-score to segment the rest without a zip"
            raise DatasetError(
                f"no mask in {folder} contains object {ids} of {sequence.name}, which meta.json lists", hint
            )


def _checked(sequence: VideoSequence, single_object: bool, results: Path) -> Iterator[tuple[str, Path]]:
    """Yield the zip's name and the file of each mask of a sequence that has passed."""
    given = [read_index_map(path) for path in sequence.masks.values()]
    known = {i for mask in given for i in ids_of(mask)} - {VOID}
    for frame in sequence.saved:
        path = result_path(results, sequence.name, frame)
        if not path.is_file():
            raise InputError(f"{path} is missing", "a submission must contain every sequence and every scored frame")
        mask = read_index_map(path)
        if mask.shape != given[0].shape:
            sizes = [f"{shape[1]}x{shape[0]}" for shape in (mask.shape, given[0].shape)]
            raise InputError(f"{path} is {sizes[0]}, the sequence is {sizes[1]}")
        with Image.open(path) as picture:
            if picture.mode != "P":
                raise InputError(
                    f"{path} is not an indexed PNG", "servers expect indexed PNGs, which mgseg writes by default"
                )
        if not single_object and (extra := set(ids_of(mask)) - known):
            raise InputError(f"{path} contains the objects {sorted(extra)}; the sequence has only {sorted(known)}")
        yield f"{sequence.name}/{frame}.png", path
