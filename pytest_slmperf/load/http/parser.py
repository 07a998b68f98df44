"""Received bytes to tokens: server-sent events, OpenAI's stream objects.

Runs after the window, on bytes with the time of the read that brought them.  An event carries the time of the read
that completed it.
"""

from __future__ import annotations

import json
from typing import Any

from pytest_slmperf.load.http.limits import (
    MAX_COMMENTS,
    MAX_ERROR_BODY,
    MAX_EVENT,
    MAX_HEAD,
    MAX_INTERIM,
    MAX_TOKENS,
    TOO_LARGE,
    answer_events,
    content_length,
    loads,
    reasoning_tokens,
    refuse_encoding,
    token_count,
)
from pytest_slmperf.load.http.sse_fast_path import Pattern, whole_chunks
from pytest_slmperf.load.http.wire import Dechunker, parse_head


class Answer:
    """The answer to one request, fed in order of arrival; times are CLOCK_MONOTONIC ns.

    ``times`` and ``tokens``: of each content-bearing event, tokens 0 where the event has no count.
    """

    __slots__ = (
        "_body",
        "_clean",
        "_counted",
        "_dead",
        "_dechunk",
        "_events",
        "_head",
        "_interim",
        "_length",
        "_most_event",
        "_most_in",
        "_most_times",
        "_n_out",
        "_plain",
        "_tries",
        "done",
        "error",
        "error_text",
        "finish",
        "n_in",
        "n_out",
        "pattern",
        "reasoning",
        "retry_after",
        "status",
        "thought",
        "times",
        "tokens",
    )

    def __init__(self, n_out: int | None = None, most_in: int = MAX_TOKENS, most_event: int = MAX_EVENT) -> None:
        """``n_out``: tokens that were asked for; ``most_in``: most of the prompt; ``most_event``: bytes of an event."""
        self._n_out, self._most_in, self._most_event = n_out, most_in, most_event
        self._most_times = answer_events(n_out)
        self._dead = False  # what comes further is not looked at
        self._events = 0
        self._interim = 0
        self._head: bytes | None = b""
        self._body = b""
        self._dechunk: Dechunker | None = None
        self._length: int | None = None
        self._clean = False
        self.pattern: Pattern | None = None
        self._plain = 0  # number of events so far with one text and nothing else
        self._tries = 4  # remaining attempts to find a pattern
        self._counted = 0  # tokens by the usage of the last event
        self.status: int | None = None
        self.times: list[int] = []
        self.tokens: list[int] = []
        self.n_in: int | None = None
        self.n_out: int | None = None
        self.reasoning, self.thought = 0, False  # its tokens by the usage; some of it was sent
        self.done = False  # the server has declared the stream complete
        self.finish: str | None = None
        self.error: str | None = None
        self.error_text = ""
        self.retry_after: str | None = None

    def feed(self, times: list[int], reads: list[bytes]) -> None:
        """Add some reads, each with its time."""
        pattern: Pattern | None = None
        fit: list[bool] = []
        at = 0
        while at < len(reads) and not self._dead:
            if self._clean and self.pattern is not None:
                if self.pattern is not pattern:
                    pattern = self.pattern
                    fit = [*([False] * at), *pattern.fits(reads[at:]), False]
                upto = fit.index(False, at)
                if upto > at:
                    self._events += upto - at
                    self.times += times[at:upto]
                    self.tokens += [0] * (upto - at)
                    self._bound()
                    at = upto
                    continue
                pieces = whole_chunks(reads[at])
                if len(pieces) > 1 and any(pattern.fits(pieces)):  # chunks that arrived together
                    self.feed([times[at]] * len(pieces), pieces)
                    at += 1
                    continue
            self._feed_one(times[at], reads[at])
            at += 1

    def _bound(self) -> None:
        if len(self.times) > (most := self._most_times):
            self._give_up(TOO_LARGE, f"more than {most} events with text")
            del self.times[most:], self.tokens[most:]

    def _feed_one(self, at_ns: int, data: bytes) -> None:
        clean = self._clean
        read, plain, events, times = data, self._plain, self._events, len(self.times)
        self._clean = False
        try:
            while self._head is not None:
                body = self._feed_head(data)
                if body is None:
                    return
                data = body
        except ValueError as error:
            self._give_up("bad_http", str(error))
            return
        if self._dechunk is not None:
            data = self._dechunk.feed(data)
        if self.status == 200 and not self._length:
            self._feed_events(at_ns, data)
            # Whether the next byte begins a chunk and an event.
            self._clean = self._dechunk is not None and not self._body and self._dechunk.between()
            alone = self._plain == plain + 1 and self._events == events + 1 and len(self.times) == times + 1
            if clean and self._clean and alone and self._tries:
                self._tries -= 1
                self.pattern = Pattern.of(read) or self.pattern
        elif len(self._body) < MAX_ERROR_BODY:
            self._body = (self._body + data)[:MAX_ERROR_BODY]
        if self._dechunk is not None and self._dechunk.fault is not None:
            self._give_up("bad_http", self._dechunk.fault)

    def _feed_head(self, data: bytes) -> bytes | None:
        """The body bytes after the head; None while the head is incomplete."""
        head = (self._head or b"") + data
        end = head.find(b"\r\n\r\n")
        if (len(head) if end < 0 else end) > MAX_HEAD or not head.startswith(b"HTTP/1."[: len(head)]):
            raise ValueError("not an HTTP/1 response")
        if end < 0:
            self._head = head
            return None
        status, headers = parse_head(head[:end])
        if 100 <= status < 200:  # an interim answer, which the real answer follows
            self._head = b""
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise ValueError(f"more than {MAX_INTERIM} interim answers")
            return head[end + 4 :]
        self.status, self._head = status, None
        self.retry_after = headers.get("retry-after", "")[:40] or None
        refuse_encoding(headers)
        if headers.get("transfer-encoding", "").lower().endswith("chunked"):
            self._dechunk = Dechunker()
        elif (length := content_length(headers)) is not None:
            self._length = length
            if self.status == 200 and headers.get("content-type", "").startswith("text/event-stream"):
                self._length = None  # a stream that is sent as a whole is still a stream
        return head[end + 4 :]

    def _feed_events(self, at_ns: int, data: bytes) -> None:
        buffer = self._body + data if self._body else data
        if b"\r" in buffer:
            # A CR at the end may be half of a CRLF.
            keep = buffer[-1:] if buffer.endswith(b"\r") else b""
            buffer = buffer[: len(buffer) - len(keep)].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + keep
        events = buffer.split(b"\n\n")
        self._body = events.pop()
        most = MAX_COMMENTS + self._most_times
        for event in events:
            self._events += 1
            if len(event) > self._most_event:
                break
            if self._events > most:
                self._give_up(TOO_LARGE, f"more than {most} events")
            else:
                self._event(at_ns, event)
            if self._dead:
                return
        else:
            if len(self._body) <= self._most_event + 2:  # of which two may belong to the empty line
                return
        self._give_up(TOO_LARGE, f"an event of more than {self._most_event} bytes")

    def _event(self, at_ns: int, event: bytes) -> None:
        if event.startswith(b"data: ") and b"\n" not in event:
            payload = event[6:]
        else:
            lines = []
            for line in event.split(b"\n"):
                name, _, value = line.partition(b":")
                if name == b"data":
                    lines.append(value.removeprefix(b" "))
                elif name == b"event" and value.strip() == b"error":
                    self._fail("error_event", _message_of(event.partition(b"data:")[2]))
                    return
                elif name and name not in (b"event", b"id", b"retry"):
                    self._fail("malformed_sse", f"a line that is no field: {line[:80]!r}")
                    return
            if not lines:
                return  # a comment that keeps the connection alive
            payload = b"\n".join(lines)
        if payload == b"[DONE]":
            self.done = True
            return
        try:
            message = loads(payload)
        except ValueError as error:
            self._fail("bad_json", f"{error}: {payload[:80]!r}")
            return
        if not isinstance(message, dict):
            self._fail("bad_json", f"an event that is no object: {payload[:80]!r}")
            return
        self._message(at_ns, message)

    def _message(self, at_ns: int, message: dict[str, Any]) -> None:
        if message.get("error"):
            self._fail("error_event", _error_text(message))
            return
        tokens, usage = 0, message.get("usage")
        if isinstance(usage, dict):
            n_in, n_out = usage.get("prompt_tokens"), usage.get("completion_tokens")
            try:
                if n_in is not None:
                    self.n_in = token_count(n_in, self._most_in)
                if n_out is not None:
                    self.reasoning, apart = reasoning_tokens(usage)
                    self.n_out = token_count(n_out, self._n_out or MAX_TOKENS) + apart
                    tokens, self._counted = max(0, self.n_out - self._counted), self.n_out
            except ValueError as error:
                self._fail("bad_usage", f"a usage of {error}")
                return
        choices = message.get("choices")
        if not isinstance(choices, list):
            if usage is None:
                self._fail("bad_json", "an event with neither choices nor usage nor error")
            return
        content, plain = False, not usage and len(choices) == 1
        for choice in choices:
            if not isinstance(choice, dict):
                self._fail("bad_json", "a choice that is no object")
                return
            if choice.get("finish_reason"):
                self.finish = str(choice["finish_reason"])[:40]
                plain = False
            delta = choice.get("delta")
            source = delta if isinstance(delta, dict) else choice
            text = (source.get("content") or source.get("text") or source.get("reasoning_content")
                    or source.get("reasoning") or source.get("tool_calls"))  # fmt: skip
            if text:
                if not isinstance(text, str) and not _parts(text):
                    self._fail("bad_json", f"a text that is none: {str(text)[:80]}")
                    return
                content = True
            self.thought |= bool(source.get("reasoning_content") or source.get("reasoning"))
            ids = choice.get("token_ids")
            if isinstance(ids, list) and ids:
                content, plain = True, False
                tokens = tokens or len(ids)
        # The text of a token can be empty while the server holds back bytes of a character; the usage counts the token.
        if content or (tokens and choices):
            self.times.append(at_ns)
            self.tokens.append(tokens)
            self._plain += plain
            if len(self.times) > self._most_times:
                self._bound()

    def _fail(self, kind: str, text: str) -> None:
        if self.error is None:
            self.error, self.error_text = kind, text

    def _give_up(self, kind: str, text: str) -> None:
        """Give up an answer that cannot be parsed further: drop its bytes and ignore the rest."""
        self._fail(kind, text)
        self._dead = True
        self._body = b""

    def finished(self, transport_error: str | None) -> None:
        """Determine the error after the last byte. ``transport_error``: how the connection failed, or None."""
        if self.status is not None and self.status != 200:
            self.error = f"http_{self.status}"
            self.error_text = _message_of(self._body)
        elif self.error is None and transport_error is not None:
            self.error = transport_error
        elif self.error is None and not self.done and self._body.strip() != b"data: [DONE]":
            text = _message_of(self._body)
            if self._length is not None or (self._body and not self.times):
                self._fail("not_a_stream", text or "an empty answer")
            elif self.finish is None:
                self._fail("cut_short", "the answer ended without a finish reason or [DONE]")
        if self.error is None and not self.times:
            self._fail("no_tokens", "the answer is complete and holds no token")


def _parts(value: object) -> bool:
    """Whether a text came as a list of parts, each an object."""
    return isinstance(value, list) and all(isinstance(part, dict) for part in value)


def _message_of(body: bytes) -> str:
    """The message in the body of an error, JSON or not."""
    try:
        return _error_text(loads(body))
    except ValueError:
        return body.decode("utf-8", "replace").strip()


def _error_text(message: Any) -> str:
    error = message.get("error", message) if isinstance(message, dict) else message
    if isinstance(error, dict):
        error = error.get("message", error.get("detail", error))
    try:
        return error if isinstance(error, str) else json.dumps(error)
    except RecursionError:
        return "an error that is nested too deeply"
