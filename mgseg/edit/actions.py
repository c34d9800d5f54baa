"""Requests of the page. Each action takes a clip's id and the request's values, and returns the answer."""

import zlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from mgseg.edit.clips import Clips, OpenClip
from mgseg.edit.cutting import cut
from mgseg.edit.export import Exporter, choose_outputs, command_line
from mgseg.edit.project import ObjectInfo
from mgseg.edit.worker import DIRECTIONS, Job, Worker
from mgseg.errors import InputError

Values = dict[str, Any]
Action = Callable[[str, Values], Values]


class Actions:
    """The actions on one clip, and the state that the page shows.

    Args:
        clips: by id.
        worker: runs the network.
        exporter: writes results.

    Attributes:
        changes: actions by name after which every other page must look anew.
        others: the rest of the actions.
    """

    def __init__(self, clips: Clips, worker: Worker, exporter: Exporter) -> None:
        self.clips, self._worker, self._exporter = clips, worker, exporter
        self.changes: dict[str, Action] = {
            "objects": self._set_objects,
            "undo": self._undo,
            "forget": self._forget,
            "cut": self._cut,
        }
        self.others: dict[str, Action] = {
            "run": self._run,
            "stop": self._stop,
            "command": self._command,
            "export": self._export,
        }

    def state(self, clip_id: str) -> Values:
        """Return everything that the page shows of a clip, except pictures and masks."""
        clip = self.clips[clip_id]
        project, store, info = clip.project, clip.store, clip.info
        with project.lock:
            return {
                "name": info.path.name,
                "path": str(info.path),
                "project": str(project.folder),
                "width": info.width,
                "height": info.height,
                "rate": float(info.rate),
                "num_frames": store.num_frames,
                "promised": info.num_frames,
                "complete": store.complete,
                "problem": store.problem,
                "objects": [asdict(item) for item in project.objects.values()],
                "given": sorted(project.given),
                "predicted": sorted(project.predicted),
                "confidence": project.confidence(),
                "doubtful": [vars(stretch) for stretch in project.doubtful()],
                "cuts": store.cuts,
                "running": self._worker.running == clip_id,
                "undo": project.history.position,
                "redo": project.history.length - project.history.position,
            }

    def put_mask(self, clip_id: str, frame: int, version: str | None, packed: bytes) -> Values:
        """Store a given mask for a frame; `packed` are its pixels, compressed with zlib.

        Raises:
            InputError: it is not zlib data, has the wrong number of pixels, or unknown object ids.
            ConflictError: the frame's mask is no longer `version`.
        """
        clip = self.clips[clip_id]
        if not 0 <= frame < _num_frames(clip):
            raise InputError(f"there is no frame {frame}")
        shape = clip.info.height, clip.info.width
        try:
            data = zlib.decompressobj().decompress(packed, shape[0] * shape[1] + 1)
        except zlib.error as error:
            raise InputError(f"the mask is not compressed with zlib: {error}") from error
        if len(data) != shape[0] * shape[1]:
            raise InputError(f"expected a mask of {shape[0] * shape[1]} pixels, found {len(data)}")
        return {"version": clip.project.edit(frame, np.frombuffer(data, np.uint8).reshape(shape), version)}

    def _set_objects(self, clip_id: str, values: Values) -> Values:
        self.clips[clip_id].project.set_objects([ObjectInfo(**item) for item in values["objects"]])
        return {}

    def _undo(self, clip_id: str, values: Values) -> Values:
        project = self.clips[clip_id].project
        return {"frame": project.redo() if values.get("redo") else project.undo()}

    def _forget(self, clip_id: str, values: Values) -> Values:
        self.clips[clip_id].project.forget(int(values["frame"]))
        return {}

    def _cut(self, clip_id: str, values: Values) -> Values:
        clip, frame = self.clips[clip_id], int(values["frame"])
        mask = cut(clip.project, clip.store.image(frame), values)
        return {"version": clip.project.edit(frame, mask, values.get("version"))}

    def _run(self, clip_id: str, values: Values) -> Values:
        clip, direction = self.clips[clip_id], values.get("direction", "both")
        if direction not in DIRECTIONS:
            raise InputError(f"the direction must be one of {', '.join(DIRECTIONS)}, found {direction!r}")
        up_to = values.get("up_to")
        self._worker.submit(Job(clip_id, clip.project, clip.store, direction, None if up_to is None else int(up_to)))
        return {}

    def _stop(self, clip_id: str, values: Values) -> Values:
        self._worker.stop()
        return {}

    def _command(self, clip_id: str, values: Values) -> Values:
        clip = self.clips[clip_id]
        outputs = choose_outputs(clip, values["outputs"])
        return {"command": command_line(clip, outputs, self._worker.network, self._worker.options)}

    def _export(self, clip_id: str, values: Values) -> Values:
        clip = self.clips[clip_id]
        self._exporter.start(clip_id, clip, choose_outputs(clip, values["outputs"]))
        return {}


def _num_frames(clip: OpenClip) -> int:
    """Return the number of frames of a clip, as far as known."""
    counted, promised = clip.store.num_frames, clip.info.num_frames or 0
    return counted if clip.store.complete else max(counted, promised)
