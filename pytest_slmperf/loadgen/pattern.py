"""A short cut for the most frequent read of all: one more event of a stream that differs from the last in its text only.

The first such event is parsed as any other; what stands around its text is then known to be right, and an event with the
same bytes around a text without quotes, backslashes and control characters is the same JSON with another string in it.
"""

from __future__ import annotations

import re

# the closing quote of a JSON string cannot stand before a colon, so that these bytes are always a key
_TEXT = re.compile(rb'"(?:text|content|reasoning_content|reasoning)": ?"([^"\\\x00-\x1f]+)"')
_CHUNK = re.compile(rb"[0-9a-f]{1,8}\r\n(?=data:)")
_SPECIAL = bytes(range(32)) + b'"\\'


def whole_chunks(data: bytes) -> list[bytes]:
    """``data`` cut behind each chunk that is in it as a whole, what follows them as the last piece."""
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


class Pattern:
    """Made of a read that is one chunk with one event."""

    __slots__ = ("_after", "_before", "_heads")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before, self._after = before, after
        self._heads: dict[int, bytes] = {}  # by the length of a read: its chunk's size, and what follows up to the text

    @staticmethod
    def of(data: bytes) -> Pattern | None:
        """From a read that was understood and brought a plain text; None where the text cannot be told from the rest."""
        size, texts = _CHUNK.match(data), list(_TEXT.finditer(data))
        if size is None or len(texts) != 1 or not data.endswith(b"\n\r\n"):
            return None
        return Pattern(data[size.end() : texts[0].start(1)], data[texts[0].end(1) :])

    def fits(self, data: bytes) -> bool:
        """Whether the read is another such event, and nothing else."""
        head = self._heads.get(len(data))
        if head is None:
            head = self._heads[len(data)] = self._head(len(data))
        if not data.startswith(head) or not data.endswith(self._after):
            return False
        text = data[len(head) : len(data) - len(self._after)]
        return len(text.translate(None, _SPECIAL)) == len(text) > 0

    def _head(self, length: int) -> bytes:
        for digits in range(1, 9):
            size = length - digits - 4  # the line end behind the size, and the one behind the chunk
            if size > 0 and len(b"%x" % size) == digits:
                return b"%x\r\n" % size + self._before
        return b"\n"  # fits nothing
