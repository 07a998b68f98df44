"""The errors that reach a user: each names the thing that is wrong and the mend."""

from __future__ import annotations


class SlmperfError(Exception):
    """Base of all errors of this package; its text is written for the user, not for a developer."""


class InvalidInput(SlmperfError, ValueError):
    """An option, marker key, file or field is wrong; the text names it and says what to do."""


class LongerThanModel(InvalidInput):
    """The work needs more tokens at once than the model was made for."""


class EngineError(SlmperfError):
    """An engine could not start, or failed while it was measured.

    ``log_tail`` holds the last lines of the engine's log, shown below the message.
    """

    def __init__(self, message: str, log_tail: str = "") -> None:
        super().__init__(message)
        self.log_tail = log_tail

    def __str__(self) -> str:
        message = super().__str__()
        if not self.log_tail:
            return message
        indented = "\n".join(f"    {line}" for line in self.log_tail.splitlines())
        return f"{message}\n  last lines of the engine's log:\n{indented}"


class EngineMissing(EngineError):
    """The engine's package is not installed, or not usable, in the interpreter that should run it."""


class OutOfMemory(EngineError):
    """The engine, or one more of its kind, needs more memory than the device has left."""


class NotMeasured(SlmperfError, LookupError):
    """A test asked for a reading that a disturbed machine or the end of its time left out: it ends as inconclusive."""


class BaselineError(SlmperfError):
    """A baseline file cannot be read or written; the file is left as it was."""
