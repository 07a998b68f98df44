"""Prompts as text, with an exact length under the model's own tokenizer, for engines that do not accept token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Protocol, runtime_checkable

from pytest_slmperf.errors import InvalidInput

TRIES = 40


class Tokenizer(Protocol):
    """The part of a tokenizer that is used: text to ids (with the special tokens that the server adds) and ids to text."""

    def encode(self, text: str) -> Sequence[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


@runtime_checkable
class ChatTokenizer(Tokenizer, Protocol):
    """A tokenizer that can render a chat. ``chat_template``: None for a model without a template."""

    chat_template: str | None

    def apply_chat_template(
        self, messages: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool, return_dict: bool
    ) -> Sequence[int]: ...


def load_tokenizer(model: str | Path) -> Tokenizer:
    """The tokenizer of a local folder or hub id, through transformers. InvalidInput if it cannot be loaded."""
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


class Writer:
    """Writes prompts from segments (name, tokens): equal names give equal words, so that shared segments are shared text.

    A segment consists of words that are one token each after another word.  The first segment is shorter by the tokens that
    the tokenizer or the chat template adds.  If neighbours still merge into one token, words are added or removed at the
    end until the length is right.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.words = _words(tokenizer)

    def text(self, parts: Sequence[tuple[str, int]], seed: int | str) -> str:
        """A text with the tokens of all segments, including special tokens. InvalidInput if no such text exists."""
        room = [length for _, length in parts]
        room[0] -= len(self.tokenizer.encode(""))
        text = "".join(self._fitted(parts, room, seed, lambda texts: len(self.tokenizer.encode("".join(texts)))))
        tokens = sum(length for _, length in parts)
        if len(self.tokenizer.encode(text)) != tokens:
            raise InvalidInput(
                f"a prompt of {tokens} tokens has no room for a word beside those that the tokenizer adds itself; use "
                "longer inputs, or send token ids (the completions API)"
            )
        return text

    def messages(self, parts: Sequence[tuple[str, int]], seed: int | str) -> list[dict[str, str]]:
        """The same as a chat, with its length under the chat template.

        Segments whose name ends in ``answer`` are the assistant's; neighbours of one role are one message.  If the template
        alone is longer than the segments, it is the shortest chat, whose length the result notes.
        """
        roles = ["assistant" if name.endswith("/answer") else "user" for name, _ in parts]
        room = [length for _, length in parts]
        before = 0
        for place, role in enumerate(
            roles
        ):  # the user's first segment of a turn is shorter by the tokens that the turn adds
            if role == "user" and (place == 0 or roles[place - 1] != "user"):
                added = self._length(_joined(roles[: place + 1], [""] * (place + 1)))
                room[place] -= added - before
                before = added
        return _joined(roles, self._fitted(parts, room, seed, lambda texts: self._length(_joined(roles, texts))))

    def _length(self, messages: list[dict[str, str]]) -> int:
        if not isinstance(self.tokenizer, ChatTokenizer) or not self.tokenizer.chat_template:
            return len(self.tokenizer.encode("".join(message["content"] for message in messages)))
        rendered = self.tokenizer.apply_chat_template(
            messages, tokenize=True, add_generation_prompt=True, return_dict=False
        )
        return len(rendered)

    def _fitted(
        self, parts: Sequence[tuple[str, int]], room: list[int], seed: int | str, measure: Callable[[list[str]], int]
    ) -> list[str]:
        tokens = sum(length for _, length in parts)
        draws = [Random(f"{seed}/{name}") for name, _ in parts]
        chosen = [draw.choices(self.words, k=max(1, count)) for draw, count in zip(draws, room, strict=True)]
        for _ in range(TRIES):
            texts = ["".join(words) for words in chosen]
            short = tokens - measure(texts)
            if short == 0 or (short < 0 and len(chosen[-1]) == 1):
                return texts
            if short > 0:
                chosen[-1] += draws[-1].choices(self.words, k=short)
            else:
                del chosen[-1][max(1, len(chosen[-1]) + short) :]
        raise InvalidInput(f"no text of exactly {tokens} tokens was found for this tokenizer; send token ids instead")


def _joined(roles: Sequence[str], texts: Sequence[str]) -> list[dict[str, str]]:
    messages: list[dict[str, str]] = []
    for role, text in zip(roles, texts, strict=True):
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += text
        else:
            messages.append({"role": role, "content": text})
    return messages


def _words(tokenizer: Tokenizer) -> list[str]:
    """Words that are one token each after another word: " of", " time", …"""
    base = len(tokenizer.encode("a a"))
    words: list[str] = []
    for identity in range(256, 6000):
        word = tokenizer.decode([identity])
        if word.strip().isalpha() and word.strip().isascii():
            spaced = " " + word.strip().lower()
            if len(tokenizer.encode("a a" + spaced)) == base + 1:
                words.append(spaced)
        if len(words) >= 200:
            break
    if len(words) < 10:
        raise InvalidInput(
            "this tokenizer has too few plain words to make text of exact length; send token ids instead"
        )
    return words


def plain_text(tokens: int, seed: str) -> str:
    """Text of about ``tokens`` tokens without a tokenizer: one short word per token. The server counts the true number."""
    random = Random(seed)
    return " ".join(random.choice(COMMON) for _ in range(max(1, tokens)))


_WORDS = """
the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not
what all were we when your can said there use an each which she do how their if will up other about out many then
them these so some her would make like him into time has look two more write go see number no way could people
"""
COMMON = tuple(_WORDS.split())
