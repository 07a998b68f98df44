"""A fast path for the most frequent read: an event of a stream that differs from the last in its text only.

The first such event is parsed normally, which verifies the bytes around its text.  An event with the same bytes around a
text without quotes, backslashes and control characters is then the same JSON with another string.
"""

from __future__ import annotations

import re
from functools import lru_cache

# The closing quote of a JSON string cannot precede a colon, so that these bytes are always a key.
_TEXT = re.compile(rb'"(?:text|content|reasoning_content|reasoning)": ?"([^"\\\x00-\x1f]+)"')
_CHUNK = re.compile(rb"[0-9a-f]{1,8}\r\n(?=data:)")
_SPECIAL = bytes(range(32)) + b'"\\'


def whole_chunks(data: bytes) -> list[bytes]:
    """``data`` split after each complete chunk; the rest is the last piece."""
    pieces, begin = [], 0
    while size := _CHUNK.match(data, begin):
        end = size.end() + int(size[0], 16) + 2
        if end > len(data):
            break
        pieces.append(data[begin:end])
        begin = end
    if begin < len(data):
        pieces.append(data[begin:])
    return pieces


class _Heads(dict[int, bytes]):
    """By the length of a read: the line with its chunk's size, and the bytes up to the text."""

    def __init__(self, before: bytes) -> None:
        self._before = before

    def __missing__(self, length: int) -> bytes:
        size = _size(length)
        head = self[length] = size and size + self._before
        return head


@lru_cache(4096)
def _size(length: int) -> bytes:
    """The line with the size of the only chunk of a read; empty where there is no such chunk."""
    for digits in range(1, 9):
        size = length - digits - 4  # the line end behind the size, and the one behind the chunk
        if size > 0 and len(b"%x" % size) == digits:
            return b"%x\r\n" % size
    return b""


class Pattern:
    """Made of a read that is one chunk with one event."""

    __slots__ = ("_after", "_heads")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._after = after
        self._heads = _Heads(before)

    @staticmethod
    def of(data: bytes) -> Pattern | None:
        """From a parsed read with a plain text; None if the place of the text is not certain."""
        size, texts = _CHUNK.match(data), list(_TEXT.finditer(data))
        if size is None or len(texts) != 1 or not data.endswith(b"\n\r\n"):
            return None
        return Pattern(data[size.end() : texts[0].start(1)], data[texts[0].end(1) :])

    def fits(self, reads: list[bytes]) -> list[bool]:
        """For each read, whether it is exactly one such event."""
        after, behind = self._after, len(self._after)
        heads = map(self._heads.__getitem__, map(len, reads))
        texts = [
            data[len(head) : -behind] if head and data.startswith(head) and data.endswith(after) else b""
            for data, head in zip(reads, heads, strict=True)
        ]
        every = b" ".join(texts)  # the space keeps halves of a character in two texts apart
        if len(every.translate(None, _SPECIAL)) == len(every) and _is_text(every):
            return list(map(bool, texts))
        return [len(text.translate(None, _SPECIAL)) == len(text) > 0 and _is_text(text) for text in texts]


def _is_text(data: bytes) -> bool:
    """Whether ``json.loads`` takes these bytes for text."""
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True
