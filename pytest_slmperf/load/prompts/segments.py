"""Token ids from a name: the same name gives the same ids in every process. Standard library only and Python 3.10.

A prompt is a list of segments, each a name and a length; prompts that share a name share its tokens.  A plan is therefore
small for all lengths, and the process that knows the vocabulary draws the ids.
"""

from __future__ import annotations

import random
from collections.abc import Iterable


def draw(name: str, length: int, vocabulary: int, seed: int) -> list[int]:
    """``length`` ids from the middle of the vocabulary, since special tokens are at its ends."""
    low = min(256, vocabulary // 8)
    high = max(low + 1, int(vocabulary * 0.95))
    return random.Random(f"{seed}/{name}/{vocabulary}").choices(range(low, high), k=length)


def join(parts: Iterable[Iterable[object]], vocabulary: int, seed: int) -> list[int]:
    """The ids of a whole prompt from its ``[name, length]`` segments."""
    ids: list[int] = []
    for name, length in parts:
        ids += draw(str(name), int(length), vocabulary, seed)  # type: ignore[call-overload]
    return ids
