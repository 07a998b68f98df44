"""The plan of a mock server: its times, its faults."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

from pytest_slmperf.errors import InvalidInput

FAULTS = {
    "401": "answers 401, with the key that was sent in the message, as some servers do",
    "422": "answers 422 to a request with ignore_eos, as servers do that know OpenAI's fields only",
    "429": "answers 429 with Retry-After",
    "500": "answers 500",
    "error_event": "sends an error object in the middle of the stream",
    "disconnect": "closes the connection in the middle of the stream",
    "reset": "resets the connection in the middle of the stream",
    "stall": "sends nothing more from the middle of the stream on, and keeps the connection open",
    "silent": "takes the request and never answers",
    "malformed_sse": "sends a line in the middle of the stream that is no field of an event",
    "bad_json": "sends an event in the middle of the stream that is not JSON",
    "cut_short": "ends the body in the middle of the stream, without a finish reason or [DONE]",
    "no_tokens": "ends the stream without a token",
    "not_a_stream": "answers with one JSON document, as if streaming had not been asked for",
    "bad_http": "answers with what is not HTTP",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """``kind`` of ``FAULTS``, made for a share of the requests (1.0: all)."""

    kind: str
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise InvalidInput(f"unknown fault {self.kind!r}; there are: {', '.join(FAULTS)}")
        if not 0 < self.share <= 1:
            raise InvalidInput(f"the share of fault {self.kind!r} must be above 0 and at most 1, not {self.share!r}")

    @staticmethod
    def parse(text: str) -> Fault:
        """From ``KIND`` or ``KIND:SHARE``."""
        kind, colon, share = text.partition(":")
        try:
            return Fault(kind, float(share) if colon else 1.0)
        except ValueError as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"fault {text!r}: the share must be a number") from error


@dataclass(frozen=True, slots=True)
class MockPlan:
    """Times in seconds.

    ttft_s:          from the request to the first content
    itl_s:           from token to token
    jitter:          each wait is uniform in 1 − jitter … 1 + jitter times its length
    chunk:           tokens in each event
    empty_first:     send a first event with a role and no content (chat always sends it)
    usage:           send token counts on request
    separate_finish: send the finish reason in an event of its own
    most_tokens:     largest number of tokens in an answer, whatever the request
    """

    ttft_s: float = 0.05
    itl_s: float = 0.01
    jitter: float = 0.0
    chunk: int = 1
    empty_first: bool = False
    usage: bool = True
    separate_finish: bool = True
    most_tokens: int | None = None
    faults: tuple[Fault, ...] = field(default=())
    retry_after_s: int = 7
    model: str = "mock"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("ttft_s", "itl_s"):
            if not 0 <= getattr(self, name) < 3600:
                raise InvalidInput(f"mock server: {name} must be 0 to 3600 seconds, not {getattr(self, name)!r}")
        if not 0 <= self.jitter < 1:
            raise InvalidInput(f"mock server: jitter must be at least 0 and below 1, not {self.jitter!r}")
        if self.chunk < 1:
            raise InvalidInput(f"mock server: a chunk holds at least 1 token, not {self.chunk!r}")
        if self.most_tokens is not None and self.most_tokens < 1:
            raise InvalidInput(f"mock server: an answer has at least 1 token, not {self.most_tokens!r}")
        if sum(fault.share for fault in self.faults) > 1 + 1e-9:
            raise InvalidInput("mock server: the shares of all faults together are more than 1")

    def fault(self, random: Random) -> str | None:
        """The fault of the next request, if any."""
        draw = random.random()
        for fault in self.faults:
            if draw < fault.share:
                return fault.kind
            draw -= fault.share
        return None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> MockPlan:
        return MockPlan(**{**data, "faults": tuple(Fault(**fault) for fault in data.get("faults", ()))})
