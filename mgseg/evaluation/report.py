"""The result of an evaluation: figures by object, by sequence and over all, as a mapping, JSON or CSV."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgseg.evaluation.confidence import ConfidenceFigures, area_change, confidence_figures, random_figures
from mgseg.evaluation.metrics import statistics

FIGURES = ("J&F", "J", "J_recall", "J_decay", "F", "F_recall", "F_decay")
SEEN, UNSEEN = "seen", "unseen"


@dataclass(frozen=True)
class ObjectScore:
    """The scores of one object.

    Attributes:
        sequence: its name.
        object_id: the number in the masks.
        group: "seen" or "unseen" in training, by category; None where that is not known.
        frames: names of the scored frames, in order.
        j: region similarity, float64 (num_frames,).
        f: boundary accuracy, float64 (num_frames,).
        areas: pixels of the predicted mask, float64 (num_frames,); empty if not counted.
        confidence: J that the network predicted, float64 (num_frames,); None where the masks hold none.
    """

    sequence: str
    object_id: int
    group: str | None
    frames: tuple[str, ...]
    j: NDArray[np.float64]
    f: NDArray[np.float64]
    areas: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    confidence: NDArray[np.float64] | None = None

    @cached_property
    def figures(self) -> dict[str, float]:
        """The FIGURES of this object."""
        j, f = statistics(self.j), statistics(self.f)
        values = ((j.mean + f.mean) / 2, *j, *f)
        return dict(zip(FIGURES, values, strict=True))


@dataclass(frozen=True)
class Report:
    """Scores of an evaluation, and its settings.

    Attributes:
        settings: dataset, split, protocol, weights, precision, size, memory, versions and speed.
        objects: the scores, in the order of the split; empty where nothing was scored.
        notes: what a reader must know beside the figures.
    """

    settings: Mapping[str, Any]
    objects: tuple[ObjectScore, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def mean(self) -> dict[str, float]:
        """The FIGURES over all objects, each counted once whatever its sequence, as DAVIS's official code has it.

        Where objects are in groups (YouTube-VOS), "J_seen", "F_seen", "J_unseen", "F_unseen" of the groups that
        have objects, and "overall", the mean of those, follow.
        """
        figures = _mean(list(self.objects))
        parts: dict[str, float] = {}
        for group in (SEEN, UNSEEN):
            members = _mean([score for score in self.objects if score.group == group])
            parts |= {f"{figure}_{group}": members[figure] for figure in ("J", "F") if members}
        return figures | parts | ({"overall": float(np.mean(list(parts.values())))} if parts else {})

    @cached_property
    def sequences(self) -> dict[str, dict[str, float]]:
        """The FIGURES of each sequence: the mean over its objects."""
        members: dict[str, list[ObjectScore]] = {}
        for score in self.objects:
            members.setdefault(score.sequence, []).append(score)
        return {name: _mean(scores) for name, scores in members.items()}

    @cached_property
    def confidence(self) -> dict[str, ConfidenceFigures]:
        """Quality of predicted J, compared with two simple predictions: random and change of area.

        Of the objects whose masks hold a confidence; empty where none does.
        """
        known = [score for score in self.objects if score.confidence is not None]
        if not known:
            return {}
        true = [score.j for score in known]
        return {
            "predicted J": confidence_figures(
                [score.confidence for score in known if score.confidence is not None], true
            ),
            "area change": confidence_figures([area_change(score.areas) for score in known], true),
            "random": random_figures(true),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return everything, each frame's J and F included, in plain types."""
        objects = [
            {
                "sequence": score.sequence,
                "object": score.object_id,
                **({"group": score.group} if score.group else {}),
                **score.figures,
                "frames": list(score.frames),
                "J_by_frame": score.j.tolist(),
                "F_by_frame": score.f.tolist(),
                **({} if score.confidence is None else {"predicted_J_by_frame": score.confidence.tolist()}),
            }
            for score in self.objects
        ]
        parts = {"mean": self.mean, "sequences": self.sequences, "objects": objects, "notes": list(self.notes)}
        confidence = {name: figures._asdict() for name, figures in self.confidence.items()}
        return {"settings": dict(self.settings), **parts, **({"confidence": confidence} if confidence else {})}

    def to_json(self) -> str:
        """Return `to_dict` as JSON; floats keep all of their digits."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False)

    def to_csv(self) -> str:
        """Return a table with a row for all, for each sequence and for each object; settings stand in each row."""
        settings = dict(flatten(self.settings))
        text = io.StringIO()
        names = ["level", "sequence", "object", "group", *FIGURES, *(n for n in self.mean if n not in FIGURES)]
        writer = csv.DictWriter(text, [*names, *settings], lineterminator="\n")
        writer.writeheader()
        writer.writerow({"level": "all", **self.mean, **settings})
        for name, figures in self.sequences.items():
            writer.writerow({"level": "sequence", "sequence": name, **figures, **settings})
        for score in self.objects:
            row = {"sequence": score.sequence, "object": score.object_id, "group": score.group}
            writer.writerow({"level": "object", **row, **score.figures, **settings})
        return text.getvalue()


def flatten(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested settings as pairs of dotted name and value."""
    pairs: list[tuple[str, Any]] = []
    for name, value in settings.items():
        nested = isinstance(value, Mapping)
        pairs += flatten(value, f"{prefix}{name}.") if nested else [(f"{prefix}{name}", value)]
    return pairs


def _mean(scores: list[ObjectScore]) -> dict[str, float]:
    if not scores:
        return {}
    return {figure: float(np.mean([score.figures[figure] for score in scores])) for figure in FIGURES}
