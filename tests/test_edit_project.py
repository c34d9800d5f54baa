"""What `mgseg edit` keeps on disk: masks, objects, undo and redo; and which frames a run segments."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mgseg.edit.project import ConflictError, Project, new_object
from mgseg.errors import InputError
from mgseg.files.masks import read_mask, write_mask
from mgseg.files.video import ClipInfo

SIZE = (6, 8)
INFO = ClipInfo(Path("clip.mp4"), SIZE[1], SIZE[0], 10, Fraction(25), Fraction(1, 25), is_counted=True)


def painted(*ids: int) -> NDArray[np.uint8]:
    """A mask with one row of pixels an id."""
    mask = np.zeros(SIZE, np.uint8)
    for row, number in enumerate(ids):
        mask[row] = number
    return mask


def test_everything_is_there_again_after_a_restart(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", INFO)
    project.set_objects([new_object(1), replace(new_object(2), name="car", locked=True)])
    project.edit(3, painted(1, 2))
    write_mask(tmp_path / "p" / "masks" / "00004.png", painted(0, 1), confidence={1: 0.5})
    again = Project(tmp_path / "p", INFO)
    assert (again.mask(3) == painted(1, 2)).all()
    assert (again.mask(4) == painted(0, 1)).all()
    assert again.given == {3}
    assert again.objects[2].name == "car"
    assert again.objects[2].locked
    assert again.predicted == {4}
    assert again.confidence() == {4: {1: 0.5}}
    assert [(s.first, s.worst, s.confidence) for s in again.doubtful()] == [(4, 4, 0.5)]
    assert again.undo() == 3, "the history outlasts the restart"
    assert not again.mask(3).any()


def test_given_masks_are_files_that_segment_takes(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", INFO)
    project.edit(3, painted(1))
    file = read_mask(tmp_path / "p" / "given" / "00003.png", size=SIZE)
    assert (file.mask == painted(1)).all()


@settings(max_examples=25, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=8))
def test_undo_leads_back_through_every_state_and_redo_forward_again(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int]]
) -> None:
    project = Project(tmp_path_factory.mktemp("p"), INFO)
    project.set_objects([new_object(i) for i in (1, 2, 3)])

    def seen() -> tuple[object, ...]:
        return (frozenset(project.given), *(project.mask(frame).tobytes() for frame in range(3)))

    states = [seen()]
    for frame, number in edits:
        project.edit(frame, painted(number)) if number else project.forget(frame)
        if seen() != states[-1] or number:
            states.append(seen())
    for state in reversed(states[:-1]):
        project.undo()
        assert seen() == state
    for state in states[1:]:
        project.redo()
        assert seen() == state
    assert project.redo() is None


def test_a_new_change_drops_what_was_undone(tmp_path: Path) -> None:
    project = Project(tmp_path, INFO)
    project.edit(0, painted(1))
    project.edit(0, painted(1, 1))
    project.undo()
    project.edit(0, painted(0, 1))
    assert project.redo() is None
    project.undo()
    assert (project.mask(0) == painted(1)).all()
    assert Project(tmp_path, INFO).history.length == 2, "what was undone last can still be done again"


def test_undo_brings_back_the_mask_that_the_network_made(tmp_path: Path) -> None:
    project = Project(tmp_path, INFO)
    project.take(5, painted(1, 1))
    project.edit(5, painted(1))
    project.take(5, painted(0, 0, 1))  # a run also takes the frames that have a given mask
    assert (project.mask(5) == painted(1)).all()
    project.undo()
    assert (project.mask(5) == painted(0, 0, 1)).all()
    project.redo()
    assert (project.mask(5) == painted(1)).all()


def test_a_deleted_object_is_background_until_that_is_undone(tmp_path: Path) -> None:
    project = Project(tmp_path, INFO)
    project.set_objects([new_object(1), new_object(2)])
    project.edit(0, painted(1, 2))
    before = project.version(0)
    project.set_objects([new_object(1)])
    assert (project.mask(0) == painted(1, 0)).all()
    assert project.version(0) != before
    assert project.undo() == -1
    assert (project.mask(0) == painted(1, 2)).all()


def test_a_mask_that_was_changed_elsewhere_is_not_overwritten(tmp_path: Path) -> None:
    project = Project(tmp_path, INFO)
    version = project.version(0)
    project.edit(0, painted(1), version)
    with pytest.raises(ConflictError, match="frame 0"):
        project.edit(0, painted(0, 1), version)
    assert (project.mask(0) == painted(1)).all()


def test_masks_of_another_shape_or_of_unknown_objects_are_refused(tmp_path: Path) -> None:
    project = Project(tmp_path, INFO)
    with pytest.raises(InputError, match=r"\(6, 8\)"):
        project.edit(0, np.zeros((8, 6), np.uint8))
    with pytest.raises(InputError, match="no object 9"):
        project.edit(0, painted(9))
    assert project.history.length == 0


def test_a_project_of_another_clip_is_refused(tmp_path: Path) -> None:
    Project(tmp_path, INFO)
    with pytest.raises(InputError, match="8x6, the clip has 9x6"):
        Project(tmp_path, replace(INFO, width=9))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "clip": {"width": 8, "height": 6}}'])
def test_a_damaged_project_file_is_named_and_kept(tmp_path: Path, text: str) -> None:
    Project(tmp_path, INFO).edit(0, painted(1))
    (tmp_path / "project.json").write_text(text)
    with pytest.raises(InputError, match=r"project\.json"):
        Project(tmp_path, INFO)
    assert (tmp_path / "given" / "00000.png").exists()
