"""The log of a run: one JSON object a line, means over steps, and TensorBoard where it is asked for."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class RunLog:
    """Appends records to a file; a resumed run drops those that lie after its checkpoint.

    Args:
        path: of the JSON lines.
        step: steps done already; later records go.
        tensorboard: folder of TensorBoard events, None for none.
    """

    def __init__(self, path: Path, step: int = 0, tensorboard: Path | None = None) -> None:
        self.path = path
        self.records = [record for record in _read(path) if record["step"] <= step] if step else []
        part = path.with_name(path.name + ".part")
        part.write_text("".join(json.dumps(record) + "\n" for record in self.records))
        part.replace(path)
        self._board = _board(tensorboard) if tensorboard else None
        self._sums: dict[str, float] = defaultdict(float)
        self._count = 0

    def add(self, values: dict[str, float]) -> None:
        """Add the values of one step to the means that the next "step" record shows."""
        for name, value in values.items():
            self._sums[name] += value
        self._count += 1

    def means(self) -> dict[str, float]:
        """The means since the last call; empty without a step."""
        means = {name: round(total / self._count, 6) for name, total in self._sums.items()}
        self._sums.clear()
        self._count = 0
        return means

    def write(self, event: str, step: int, **values: Any) -> Record:
        """Append a record.

        Args:
            event: "start", "step", "validation", "problem", "end".
            step: steps done.
            values: JSON values.

        Returns:
            the record.
        """
        record = {"event": event, "step": step, **values}
        self.records.append(record)
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if self._board:
            for name, value in values.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{event}/{name}", value, step)
        return record


def _read(path: Path) -> list[Record]:
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]  # a killed run may leave half a line


def _board(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))
