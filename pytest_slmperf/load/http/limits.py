"""Limits for data from an endpoint: bytes, time, depth and counts. Standard library only.

The client processes and the plain requests of an engine have the same limits.  An answer beyond a limit is a failure with
the name of that limit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

MAX_HEAD = 64 * 2**10  # bytes of a head, all header lines together
MAX_INTERIM = 16  # answers of 1xx before the real one
MAX_EVENT = 2**20  # bytes of one event, and of one line of it
LEAST_EVENT = 64 * 2**10
UNFINISHED = 64 * 2**20  # bytes of unfinished events of all answers that are read at once
READS_AT_ONCE = 16  # of one connection, before the others' turn
MAX_ERROR_BODY = 16 * 2**10  # bytes that are kept of an answer that is not a stream
MAX_ANSWER = 16 * 2**20  # bytes of an answer, beside what its tokens may take
PER_TOKEN = 4 * 2**10
MOST_FLOODS = 16  # answers over their limit after which a client ends the load: each has filled the disk with its limit
READS_PER_TOKEN, MAX_READS = 16, 16 * 2**10  # network reads of an answer
EVENTS_PER_TOKEN, MAX_EVENTS, MAX_COMMENTS = 4, 1024, 64 * 2**10  # events with content, and without, in an answer
MAX_PLAIN = 16 * 2**20  # bytes of the body of a plain request's answer
MAX_CHUNK_LINE = 256  # bytes of the line that gives a chunk's size
MAX_TOKENS = 2**31  # that a usage may claim where nothing else bounds it
TEMPLATE_TOKENS = 4096  # that a server's chat template may add to a prompt, whose tokens have a byte each at least

TOO_LARGE = "too_large"
_DIGITS = re.compile(r"[0-9]{1,18}")
_HEX = re.compile(rb"[0-9a-fA-F]{1,15}")


def answer_bytes(n_out: int | None) -> int:
    """Bytes that the answer to a request for ``n_out`` tokens may have."""
    return MAX_ANSWER + PER_TOKEN * (n_out or 0)


def answer_reads(n_out: int | None) -> int:
    """Network reads that the answer to a request for ``n_out`` tokens may take."""
    return MAX_READS + READS_PER_TOKEN * (n_out or 0)


def answer_events(n_out: int | None) -> int:
    """Events with content that the answer to a request for ``n_out`` tokens may have."""
    return MAX_EVENTS + EVENTS_PER_TOKEN * (n_out or 0)


def content_length(headers: Mapping[str, str]) -> int | None:
    """The length in a head, or None. ValueError for a value that is not a length."""
    text = headers.get("content-length")
    if text is None:
        return None
    if not _DIGITS.fullmatch(text):
        raise ValueError(f"a content length of {text[:40]!r}")
    return int(text)


def chunk_size(line: bytes) -> int:
    """The size of a chunk from its line with extensions. ValueError for a value that is not a size."""
    size = line.split(b";", 1)[0].strip()
    if not _HEX.fullmatch(size):
        raise ValueError(f"a chunk of size {size[:40]!r}")
    return int(size, 16)


def refuse_encoding(headers: Mapping[str, str]) -> None:
    """ValueError for a compressed body, which was not requested and whose real size is unknown until it is unpacked."""
    encoding = headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise ValueError(f"an answer in content encoding {encoding[:40]!r}, which nobody asked for")


def loads(text: bytes | str) -> Any:
    """``json.loads`` of external text. ValueError also for text that is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def token_count(value: object, most: int) -> int:
    """A token count from a server. ValueError unless it is a whole number of 0 to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{str(value)[:40]} tokens, where 0 to {most} can be")
    return value


def reasoning_tokens(usage: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens of reasoning by a usage, and how many of them its count of the completion lacks, as its total shows."""
    details = usage.get("completion_tokens_details")
    reasoning = details.get("reasoning_tokens") if isinstance(details, dict) else usage.get("reasoning_tokens")
    if isinstance(reasoning, bool) or not isinstance(reasoning, int) or not 0 < reasoning <= MAX_TOKENS:
        return 0, 0
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    prompt, completion, total = (count if isinstance(count, int) else None for count in counts)
    apart = None not in (prompt, completion) and total == (prompt or 0) + (completion or 0) + reasoning
    return reasoning, reasoning if apart else 0
