"""The bytes that a mock server sends, each made once and sent many times."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

TOKEN = " a"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """``data`` as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(message: Any) -> bytes:
    return chunk(b"data: " + json.dumps(message, separators=(",", ":")).encode() + b"\n\n")


DONE = chunk(b"data: [DONE]\n\n")


def _frame(chat: bool, model: str, choices: list[Any], usage: dict[str, int] | None = None) -> dict[str, Any]:
    message: dict[str, Any] = {
        "id": "chatcmpl-mock" if chat else "cmpl-mock",
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": 1700000000,
        "model": model,
        "choices": choices,
    }
    if usage is not None:
        message["usage"] = usage
    return message


def _choice(chat: bool, tokens: int, finish: str | None) -> dict[str, Any]:
    text = TOKEN * tokens
    if chat:
        return {"index": 0, "delta": {"content": text} if tokens else {}, "logprobs": None, "finish_reason": finish}
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}


@cache
def content(chat: bool, model: str, tokens: int, finish: str | None = None) -> bytes:
    """An event with ``tokens`` tokens."""
    return event(_frame(chat, model, [_choice(chat, tokens, finish)]))


def counted(chat: bool, model: str, tokens: int, finish: str | None, n_in: int, n_out: int) -> bytes:
    """An event with tokens and the usage so far (``continuous_usage_stats``)."""
    return event(_frame(chat, model, [_choice(chat, tokens, finish)], _usage(n_in, n_out)))


@cache
def role(chat: bool, model: str) -> bytes:
    """The empty first event: a role in chat, an empty text in completions."""
    if chat:
        return event(_frame(True, model, [{"index": 0, "delta": {"role": "assistant", "content": ""},
                                           "logprobs": None, "finish_reason": None}]))  # fmt: skip
    return content(False, model, 0)


def _usage(n_in: int, n_out: int) -> dict[str, int]:
    return {"prompt_tokens": n_in, "completion_tokens": n_out, "total_tokens": n_in + n_out}


def usage(chat: bool, model: str, n_in: int, n_out: int) -> bytes:
    """The last event before [DONE]: no choices, the token counts."""
    return event(_frame(chat, model, [], _usage(n_in, n_out)))


def document(status: str, message: Any, extra: str = "") -> bytes:
    """A whole answer with a length."""
    data = json.dumps(message).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n{extra}\r\n"
    return head.encode("latin-1") + data


def whole(chat: bool, model: str, n_in: int, n_out: int) -> bytes:
    """The answer to a request without streaming."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": "length", "logprobs": None}
    if chat:
        choice["message"] = {"role": "assistant", "content": TOKEN * n_out}
    else:
        choice["text"] = TOKEN * n_out
    message = _frame(chat, model, [choice], _usage(n_in, n_out))
    message["object"] = "chat.completion" if chat else "text_completion"
    return document("200 OK", message)
