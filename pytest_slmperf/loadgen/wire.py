"""What the received bytes meant: HTTP/1.1 heads, chunked bodies, server-sent events, OpenAI's stream objects.

Runs after the window, on bytes with the time of the read that brought them.  An event carries the time of the read
that completed it.
"""

from __future__ import annotations

import json
from typing import Any

MAX_HEAD = 65536
MAX_ERROR_BODY = 16384


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and lower-case headers of a response head (without its blank line). ValueError when it is none."""
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError("not an HTTP/1 response")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return int(rest[:3]), headers


class Dechunker:
    """Chunked transfer coding taken off. ``done`` after the last chunk; ValueError on what is not chunked."""

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0  # bytes of the present chunk still to come, its CRLF included
        self.done = False

    def feed(self, data: bytes) -> bytes:
        buffer = self._buffer + data if self._buffer else data
        out = []
        pos, size = 0, len(buffer)
        while pos < size and not self.done:
            if self._left:
                take = min(self._left, size - pos)
                body = min(take, max(0, self._left - 2))
                if body:
                    out.append(buffer[pos : pos + body])
                self._left -= take
                pos += take
                continue
            end = buffer.find(b"\r\n", pos)
            if end < 0:
                if size - pos > 64:
                    raise ValueError("a chunk without a size")
                break
            length = int(buffer[pos:end].split(b";", 1)[0], 16)
            if length == 0:
                self.done = True
            else:
                self._left = length + 2
            pos = end + 2
        self._buffer = buffer[pos:] if pos < size and not self.done else b""
        return out[0] if len(out) == 1 else b"".join(out)


class Answer:
    """The answer to one request, fed in order of arrival; times are CLOCK_MONOTONIC ns.

    ``chunks``: [time, tokens] of each content-bearing event, tokens 0 where the event does not tell how many.
    """

    __slots__ = (
        "_body",
        "_dechunk",
        "_head",
        "_length",
        "_told",
        "chunks",
        "done",
        "error",
        "error_text",
        "finish",
        "n_in",
        "n_out",
        "retry_after",
        "status",
    )

    def __init__(self) -> None:
        self._head: bytes | None = b""
        self._body = b""
        self._dechunk: Dechunker | None = None
        self._length: int | None = None
        self._told = 0  # tokens by the usage of the last event
        self.status: int | None = None
        self.chunks: list[list[int]] = []
        self.n_in: int | None = None
        self.n_out: int | None = None
        self.done = False  # the server said that the stream is complete
        self.finish: str | None = None
        self.error: str | None = None
        self.error_text = ""
        self.retry_after: str | None = None

    def feed(self, at_ns: int, data: bytes) -> None:
        try:
            if self._head is not None:
                body = self._feed_head(data)
                if body is None:
                    return
                data = body
            if self._dechunk is not None:
                data = self._dechunk.feed(data)
        except ValueError as error:
            self._fail("bad_http", str(error))
            return
        if self.status == 200 and not self._length:
            self._feed_events(at_ns, data)
        elif len(self._body) < MAX_ERROR_BODY:
            self._body += data

    def _feed_head(self, data: bytes) -> bytes | None:
        """The body bytes behind the head, None while the head is not complete."""
        head = (self._head or b"") + data
        end = head.find(b"\r\n\r\n")
        if end < 0:
            if len(head) > MAX_HEAD or (len(head) >= 7 and not head.startswith(b"HTTP/1.")):
                raise ValueError("not an HTTP/1 response")
            self._head = head
            return None
        self._head = None
        self.status, headers = parse_head(head[:end])
        self.retry_after = headers.get("retry-after")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            self._dechunk = Dechunker()
        elif "content-length" in headers:
            self._length = int(headers["content-length"])
            if self.status == 200 and headers.get("content-type", "").startswith("text/event-stream"):
                self._length = None  # a whole stream sent at once is still a stream
        return head[end + 4 :]

    def _feed_events(self, at_ns: int, data: bytes) -> None:
        buffer = self._body + data if self._body else data
        if b"\r" in buffer:
            # a CR at the very end may be half of a CRLF: wait for the rest
            keep = buffer[-1:] if buffer.endswith(b"\r") else b""
            buffer = buffer[: len(buffer) - len(keep)].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + keep
        events = buffer.split(b"\n\n")
        self._body = events.pop()
        for event in events:
            self._event(at_ns, event)

    def _event(self, at_ns: int, event: bytes) -> None:
        if event.startswith(b"data: ") and b"\n" not in event:
            payload = event[6:]
        else:
            lines = []
            for line in event.split(b"\n"):
                if line.startswith(b"data:"):
                    lines.append(line[5:].removeprefix(b" "))
                elif line and not line.startswith((b":", b"event:", b"id:", b"retry:")):
                    self._fail("malformed_sse", f"a line that is no field: {line[:80]!r}")
                    return
            if not lines:
                return  # a comment, sent to keep the connection alive
            payload = b"\n".join(lines)
        if payload == b"[DONE]":
            self.done = True
            return
        try:
            message = json.loads(payload)
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
        tokens = 0
        usage = message.get("usage")
        if isinstance(usage, dict):
            n_in, n_out = usage.get("prompt_tokens"), usage.get("completion_tokens")
            if isinstance(n_in, int):
                self.n_in = n_in
            if isinstance(n_out, int):
                self.n_out = n_out
                tokens = max(0, n_out - self._told)
                self._told = n_out
        choices = message.get("choices")
        if not isinstance(choices, list):
            if usage is None:
                self._fail("bad_json", "an event with neither choices nor usage nor error")
            return
        content = False
        for choice in choices:
            if not isinstance(choice, dict):
                self._fail("bad_json", "a choice that is no object")
                return
            if choice.get("finish_reason"):
                self.finish = str(choice["finish_reason"])
            delta = choice.get("delta")
            source = delta if isinstance(delta, dict) else choice
            if (source.get("content") or source.get("text") or source.get("reasoning_content")
                    or source.get("reasoning") or source.get("tool_calls")):  # fmt: skip
                content = True
            ids = choice.get("token_ids")
            if isinstance(ids, list) and ids:
                content = True
                tokens = tokens or len(ids)
        # text can be empty while bytes of a character are held back; the usage still says that a token came
        if content or (tokens and choices):
            self.chunks.append([at_ns, tokens])

    def _fail(self, kind: str, text: str) -> None:
        if self.error is None:
            self.error, self.error_text = kind, text

    def finished(self, transport_error: str | None) -> None:
        """Settle what went wrong, once no more bytes come. ``transport_error``: how the connection ended, if badly."""
        if self.status is not None and self.status != 200:
            self.error = f"http_{self.status}"
            self.error_text = self._error_body()
        elif self.error is None and transport_error is not None:
            self.error = transport_error
        elif self.error is None and not self.done:
            text = self._error_body()
            if self._length is not None or (self._body and not self.chunks):
                self._fail("not_a_stream", text or "an empty answer")
            elif self.finish is None:
                self._fail("cut_short", "the answer ended without a finish reason or [DONE]")
        if self.error is None and not self.chunks:
            self._fail("no_tokens", "the answer is complete and holds no token")

    def _error_body(self) -> str:
        try:
            return _error_text(json.loads(self._body))
        except ValueError:
            return self._body.decode("utf-8", "replace").strip()


def _error_text(message: Any) -> str:
    error = message.get("error", message) if isinstance(message, dict) else message
    if isinstance(error, dict):
        error = error.get("message", error.get("detail", error))
    return error if isinstance(error, str) else json.dumps(error)
