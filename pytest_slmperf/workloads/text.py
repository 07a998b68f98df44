"""Prompts as text, exact in length under the model's own tokenizer, for engines that take no token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Protocol

from pytest_slmperf.errors import InvalidInput

TRIES = 40


class Tokenizer(Protocol):
    """What is needed of a tokenizer: text to ids (special tokens as the server adds them) and ids to text."""

    def encode(self, text: str) -> Sequence[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


def load_tokenizer(model: str | Path) -> Tokenizer:
    """The tokenizer of a local folder or hub id, through transformers. InvalidInput that says what is missing."""
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise InvalidInput(
            "text prompts of exact length need the model's tokenizer: pip install transformers, or send token ids "
            "(the completions API)"
        ) from error
    try:
        loaded: Any = AutoTokenizer.from_pretrained(str(model))
    except Exception as error:
        raise InvalidInput(
            f"the tokenizer of {model} cannot be loaded: {' '.join(str(error).split())[:300]}"
        ) from error
    tokenizer: Tokenizer = loaded
    return tokenizer


def exact_text(tokenizer: Tokenizer, tokens: int, seed: str) -> str:
    """A text that this tokenizer cuts into exactly ``tokens`` tokens, its special ones included.

    Text made from drawn ids rarely goes back into as many: neighbours melt together.  So words are added or taken away
    until it fits; InvalidInput where that does not settle.
    """
    random = Random(seed)
    words = _words(tokenizer)
    special = len(tokenizer.encode(""))
    if tokens <= special:
        raise InvalidInput(
            f"a prompt of {tokens} tokens has no room beside the {special} that the tokenizer adds itself"
        )
    chosen = [random.choice(words) for _ in range(tokens - special)]
    for _ in range(TRIES):
        text = "".join(chosen)
        length = len(tokenizer.encode(text))
        if length == tokens:
            return text
        if length > tokens:
            del chosen[-(length - tokens) :]
        else:
            chosen += [random.choice(words) for _ in range(tokens - length)]
    raise InvalidInput(f"no text of exactly {tokens} tokens was found for this tokenizer; send token ids instead")


def _words(tokenizer: Tokenizer) -> list[str]:
    """Words that are one token each when they follow another: " of", " time", …"""
    base = len(tokenizer.encode("a a"))
    found = []
    for identity in range(256, 6000):
        word = tokenizer.decode([identity])
        if word.strip().isalpha() and word.strip().isascii():
            spaced = " " + word.strip().lower()
            if len(tokenizer.encode("a a" + spaced)) == base + 1:
                found.append(spaced)
        if len(found) >= 200:
            break
    if len(found) < 10:
        raise InvalidInput(
            "this tokenizer has too few plain words to make text of exact length; send token ids instead"
        )
    return found


def plain_text(tokens: int, seed: str) -> str:
    """Text of about ``tokens`` tokens where no tokenizer is at hand: one short word each. The server's count decides."""
    random = Random(seed)
    return " ".join(random.choice(COMMON) for _ in range(max(1, tokens)))


_WORDS = """
the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not
what all were we when your can said there use an each which she do how their if will up other about out many then
them these so some her would make like him into time has look two more write go see number no way could people
"""
COMMON = tuple(_WORDS.split())
