"""Log of a run: one JSON object for each line, means over steps, and optionally TensorBoard."""

import json
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

from mgseg.errors import MgsegError
from mgseg.files.whole_file import cannot_write, write_whole

Record = dict[str, Any]


class RunLog:
    """The records of a run, in memory and, once it is opened, in a file.

    Attributes:
        records: all, in order.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._values: dict[str, list[float]] = defaultdict(list)
        self._path: Path | None = None
        self._board: Any = None

    def open(self, folder: Path, step: int = 0, tensorboard: bool = False) -> None:
        """Write to `folder/log.jsonl` from now on.

        Args:
            folder: folder of the run.
            step: steps done already; records of later ones, which a stopped run lost, are dropped.
            tensorboard: also write TensorBoard events into `folder/tensorboard`.
        """
        self._path = folder / "log.jsonl"
        self.records = [record for record in _read(self._path) if record["step"] <= step] if step else []
        write_whole(self._path, "".join(json.dumps(record) + "\n" for record in self.records))
        self._board = _board(folder / "tensorboard") if tensorboard else None

    def add(self, values: dict[str, float]) -> None:
        """Add the values of one step to the means that the next "step" record shows."""
        for name, value in values.items():
            self._values[name].append(value)

    def means(self) -> dict[str, float]:
        """The means since the last call; empty without a step."""
        means = {name: round(sum(values) / len(values), 6) for name, values in self._values.items()}
        self._values.clear()
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
        if self._path:
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
            except OSError as error:
                raise cannot_write(self._path, error) from error
        if self._board:
            for name, value in values.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{event}/{name}", value, step)
            self._board.flush()
        return record


def _read(path: Path) -> list[Record]:
    if not path.exists():
        return []
    records = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        with suppress(ValueError, RecursionError):  # a killed run may leave half a line
            record = json.loads(line)
            if isinstance(record, dict) and {"event", "step"} <= record.keys():
                records.append(record)
    return records


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MgsegError("TensorBoard is not installed", "pip install -e '.[train]', from the checkout") from error
    return SummaryWriter(str(folder))
