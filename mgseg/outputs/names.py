"""Picture names that contain the frame number, such as %05d.png."""

import re

from mgseg.errors import OutputError

_PATTERN = re.compile(r"[^%/\\]*%(0\d)?d[^%/\\]*(\.[a-z]+)")


class NumberedNames:
    """Makes the name of a picture from the number of its frame.

    Args:
        pattern: with %d, or %05d for five digits, and the pictures' ending.
        suffixes: the endings that there are.

    Raises:
        OutputError: the text is not such a pattern.
    """

    def __init__(self, pattern: str, suffixes: tuple[str, ...]) -> None:
        match = _PATTERN.fullmatch(pattern)
        if not match or match[2] not in suffixes:
            hint = "write for example " + " or ".join(f"%05d{suffix}" for suffix in suffixes)
            raise OutputError(f"{pattern!r} is not a pattern for numbered pictures", hint)
        self.suffix = match[2]
        self._pattern = pattern.removesuffix(self.suffix)

    def stem(self, number: int) -> str:
        """The name of the picture of a frame, without its ending."""
        return self._pattern % number
