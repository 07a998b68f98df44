"""The errors that reach a user: each message names the fault and the fix.

Redaction is imported by the first error and not here, since its patterns take longer than the rest of loading the plugin.
"""

from __future__ import annotations

LOG_LINES, LOG_COLUMNS = 24, 400  # of an engine's log in a message


class SlmperfError(Exception):
    """Base of all errors of this package; its text is written for the user, not for a developer.

    Much of it comes from outside: what is secret is hidden in it, and nothing in it steers a terminal.
    """

    def __init__(self, message: object = "") -> None:
        from pytest_slmperf import redaction

        super().__init__(redaction.message(str(message)))


class InvalidInput(SlmperfError, ValueError):
    """An option, marker key, file or field is wrong; the message names it and the fix."""


class LongerThanModel(InvalidInput):
    """The work needs longer requests than the model supports."""

    def __init__(self, message: str, model: str = "the model", limit: int | None = None) -> None:
        super().__init__(message)
        self.model, self.limit = model, limit


class EngineError(SlmperfError):
    """An engine could not start, or failed during a measurement.

    ``log_tail`` holds the last lines of the engine's log, shown below the message.
    """

    def __init__(self, message: str, log_tail: str = "") -> None:
        from pytest_slmperf import redaction, text_out

        super().__init__(message)
        self.log_tail = text_out.message(redaction.hide(log_tail), LOG_LINES, LOG_COLUMNS)

    def __str__(self) -> str:
        message = super().__str__()
        if not self.log_tail:
            return message
        indented = "\n".join(f"    {line}" for line in self.log_tail.split("\n"))
        return f"{message}\n  last lines of the engine's log:\n{indented}"


class EngineMissing(EngineError):
    """The engine's package is not installed, or not usable, in its interpreter."""


class OutOfMemory(EngineError):
    """The engine, or a further replica, needs more memory than the device has left."""


class NotMeasured(SlmperfError, LookupError):
    """A requested reading is missing because of a disturbed machine or the end of the time: the test is inconclusive."""


class BaselineError(SlmperfError):
    """A baseline file cannot be read or written; the file is left as it was."""


class StoreUnavailable(BaselineError):
    """A whole store of baselines cannot be used now: it does not answer, is locked, full or broken."""
