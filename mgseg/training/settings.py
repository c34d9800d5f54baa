"""Settings of a stage and of a run from text, FIELD=VALUE, checked by name and type."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mgseg.errors import MgsegError
from mgseg.training.build import TrainOptions
from mgseg.training.schedule import Schedule
from mgseg.training.stages import StageConfig

STAGE_FIELDS = {name: kind for name, kind in get_type_hints(StageConfig).items() if name != "stage"}
RUN_FIELDS = {
    name: get_type_hints(TrainOptions)[name]
    for name in ("checkpoint_minutes", "keep_checkpoints", "log_every", "stride_in_1x1", "validate_size")
}


def parse_settings(texts: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read settings.

    Args:
        texts: "FIELD=VALUE" each; the field is one of StageConfig (not `stage`) or one of RUN_FIELDS.

    Returns:
        The values by field: those of the stage, and those of the run (of TrainOptions).

    Raises:
        MgsegError: there is no such field, it is set twice, or the value has another type.
    """
    of_stage: dict[str, Any] = {}
    of_run: dict[str, Any] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        kind = (STAGE_FIELDS | RUN_FIELDS).get(name)
        if not equals or kind is None:
            known = ", ".join(sorted(STAGE_FIELDS | RUN_FIELDS))
            raise MgsegError(f"--set {text}: expected FIELD=VALUE with a known field", f"fields: {known}")
        if name in of_stage or name in of_run:
            raise MgsegError(f"{name} is set twice")
        expected, parse = _parser(kind)
        try:
            parsed = parse(value)
        except (ValueError, OverflowError) as error:
            raise MgsegError(f"{name}: expected {expected}, found {value!r}") from error
        (of_stage if name in STAGE_FIELDS else of_run)[name] = parsed
    return of_stage, of_run


def _parser(kind: Any) -> tuple[str, Callable[[str], Any]]:
    """What a field expects, in words, and the function that reads it."""
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return " or ".join(choices), lambda text: choices[choices.index(text)]
    if get_origin(kind) is tuple:
        return "COUNT:WEIGHT,COUNT:WEIGHT", _pairs
    if kind is Schedule:
        return "a number, or a schedule as 192,256@0.4 or 0.1..0.6", Schedule.parse
    if kind is bool:
        return "true or false", _truth
    return ("a number", _number) if kind is float else ("a whole number", int)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _pairs(text: str) -> tuple[tuple[int, float], ...]:
    pairs = [part.partition(":") for part in text.split(",")]
    return tuple((int(count), _number(weight)) for count, _, weight in pairs)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"
