"""Clips that one server shows: a single clip, or all clips of a folder."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgseg.edit.frames import FrameStore
from mgseg.edit.project import Project
from mgseg.errors import InputError
from mgseg.files.names import in_words, reads_once
from mgseg.files.pictures import PICTURES
from mgseg.files.video import ClipInfo, probe

VIDEOS = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".ts", ".mpg", ".mpeg", ".wmv", ".ogv"}
PROJECT = ".mgseg"

Notify = Callable[[str, dict[str, Any]], None]


@dataclass
class OpenClip:
    """A clip that is being edited."""

    info: ClipInfo
    project: Project
    store: FrameStore


class Clips:
    """The clips by id ("0", "1", ...); each is opened when it is first asked for.

    Args:
        paths: paths of the clips.
        project: folder of the project, where there is one clip; None: CLIP.mgseg beside each clip.
        notify: called with a clip's id and an event, as its frames are prepared.
    """

    def __init__(self, paths: list[Path], project: Path | None, notify: Notify) -> None:
        self.paths = paths
        self._project, self._notify = project, notify
        self._open: dict[str, OpenClip] = {}
        self._opening = threading.Lock()  # requests come from several threads; two must not open one clip twice

    def __getitem__(self, clip_id: str) -> OpenClip:
        with self._opening:
            if clip_id not in self._open:
                self._open[clip_id] = self._open_clip(clip_id)
            return self._open[clip_id]

    def _open_clip(self, clip_id: str) -> OpenClip:
        path = self.path(clip_id)
        if reads_once(path):
            raise InputError(
                f"{in_words(path)} can be read only once, but editing reads a clip many times",
                "save it to a file first",
            )
        info = probe(path)
        folder = self._project or project_folder(path)
        project = Project(folder, info)

        def progress(count: int, complete: bool) -> None:
            self._notify(clip_id, {"type": "frames", "num_frames": count, "complete": complete})

        store = FrameStore(info, folder / "cache", progress)
        store.start()
        return OpenClip(info, project, store)

    def path(self, clip_id: str) -> Path:
        """Return the path of a clip. Raises InputError for an unknown id."""
        if not clip_id.isdecimal() or int(clip_id) >= len(self.paths):
            raise InputError(f"there is no clip {clip_id!r}")
        return self.paths[int(clip_id)]

    def listing(self) -> list[dict[str, Any]]:
        """Return what the list page shows of each clip, without opening any."""
        entries = []
        for number, path in enumerate(self.paths):
            folder = self._project or project_folder(path)
            given, masks = (len(list((folder / part).glob("*.png"))) for part in ("given", "masks"))
            entries.append({"id": str(number), "name": path.name, "given": given, "masks": masks})
        return entries

    def close(self) -> None:
        """End the threads of all open clips and save their state."""
        for clip in self._open.values():
            clip.store.close()
            clip.project.save()


def project_folder(clip: Path) -> Path:
    """Return the project folder of a clip: CLIP.mgseg beside it."""
    clip = clip.resolve()
    return clip.with_name(clip.name + PROJECT)


def find_clips(path: Path) -> list[Path]:
    """Find the clips of a path: the path itself, or the videos and folders of pictures inside it.

    Raises:
        InputError: there is no clip.
    """
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    if not path.is_dir():
        return [path]
    inside = sorted(p for p in path.iterdir() if not p.name.startswith(".") and p.suffix != PROJECT)
    if any(p.suffix.lower() in PICTURES for p in inside):
        return [path]  # a folder of pictures is one clip
    clips = [p for p in inside if p.suffix.lower() in VIDEOS or (p.is_dir() and _holds_pictures(p))]
    if not clips:
        raise InputError(
            f"{path} contains no videos and no pictures", "give a video, a folder of pictures, or a folder of videos"
        )
    return clips


def _holds_pictures(folder: Path) -> bool:
    return any(p.suffix.lower() in PICTURES for p in folder.iterdir())
