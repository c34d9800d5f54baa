"""Errors that a user can cause or fix. They are shown without a traceback. This module imports nothing."""


class MgsegError(Exception):
    """An error with a message for the user and, if possible, a hint.

    Args:
        message: names the thing, what was expected and what was found.
        hint: the next step, shown on a line of its own.
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
    """The device is missing or does not have enough memory."""


class OutputError(MgsegError):
    """A result cannot be written."""
