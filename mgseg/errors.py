"""The error tree: everything that a user can cause or mend. Shown without a traceback; imports nothing."""


class MgsegError(Exception):
    """An error with a message for the user and, where one helps, a hint how to go on.

    Args:
        message: the thing, what was expected and what was found, in one sentence.
        hint: what to do about it, shown on a line of its own.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class InputError(MgsegError):
    """A clip or a mask cannot be used."""


class DatasetError(MgsegError):
    """A dataset or split is missing, incomplete or damaged."""


class WeightsError(MgsegError):
    """A weights file was not found, is damaged, or belongs to another network."""


class DeviceError(MgsegError):
    """The device asked for is absent, or its memory does not suffice."""


class OutputError(MgsegError):
    """A result cannot be written."""
