"""Workloads: lists of requests with their lengths and prompts, before they have times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.load.prompts.lengths import Fixed, LengthPair, Quantiles, draw_pairs
from pytest_slmperf.load.prompts.prompt_text import plain_text
from pytest_slmperf.load.traces.formats import TraceRow

Parts = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One request. Exactly one of ``parts`` (segments of drawn ids), ``ids``, ``text``, ``messages`` is its prompt.

    n_in:  prompt tokens; None if only the server knows them
    after: index of the item whose answer it waits for (the previous turn of a conversation)
    pause: seconds between that answer and this request
    at:    seconds after the start, for a trace with times
    """

    n_out: int
    n_in: int | None = None
    parts: Parts | None = None
    ids: tuple[int, ...] | None = None
    text: str | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    after: int | None = None
    at: float | None = None
    pause: float = 0.0


class Workload(Protocol):
    """A source of requests."""

    def items(self, count: int, seed: int, limit: int | None = None) -> list[Item]:
        """``count`` requests. ``limit``: largest number of tokens in prompt and answer together."""

    def describe(self) -> dict[str, Any]:
        """The parameters that a results file keeps."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Prompts of drawn token ids.

    ``prefix_len``: tokens that the requests of each of ``prefix_groups`` groups share at their start (a system prompt).
    They are part of the input length, and every prompt has at least one token of its own.
    """

    lengths: LengthPair
    prefix_len: int = 0
    prefix_groups: int = 1

    def __post_init__(self) -> None:
        if self.prefix_len < 0 or self.prefix_groups < 1:
            raise InvalidInput("a shared prefix needs a length of 0 or more and at least one group")

    def items(self, count: int, seed: int, limit: int | None = None) -> list[Item]:
        """Lengths from a distribution are cut to ``limit``; InvalidInput for fixed lengths beyond it."""
        size = describe_lengths(self.lengths)
        if limit is not None and "input_len" in size and size["input_len"] + size["output_len"] > limit:
            raise InvalidInput(
                f"a request of {size['input_len']}+{size['output_len']} tokens is longer than the {limit} the engine takes; "
                "shorten it, or give the engine a larger max_model_len"
            )
        items = []
        for index, (n_in, n_out) in enumerate(draw_pairs(self.lengths, count, seed, limit)):
            shared = min(self.prefix_len, n_in - 1)
            parts: Parts = ((f"own/{index}", n_in - shared),)
            if shared:
                parts = ((f"prefix/{index % self.prefix_groups}", shared), *parts)
            items.append(Item(n_out=n_out, n_in=n_in, parts=parts))
        return items

    def describe(self) -> dict[str, Any]:
        return describe_lengths(self.lengths) | (
            {"prefix_len": self.prefix_len, "prefix_groups": self.prefix_groups} if self.prefix_len else {}
        )


@dataclass(frozen=True, slots=True)
class Conversations:
    """Conversations of ``turns`` turns: each prompt has the whole history, followed by a new message of an input length.

    The answers in the history are drawn and are not the engine's: lengths are therefore exact and equal on every engine,
    and a prefix cache contains the prompts of earlier turns but not their answers.
    """

    lengths: LengthPair
    turns: int

    def __post_init__(self) -> None:
        if self.turns < 1:
            raise InvalidInput(f"a conversation has at least one turn, not {self.turns!r}")

    def items(self, count: int, seed: int, limit: int | None = None) -> list[Item]:
        items: list[Item] = []
        pairs = iter(draw_pairs(self.lengths, count, seed, None))
        talk = 0
        while len(items) < count:
            history: Parts = ()
            for turn in range(min(self.turns, count - len(items))):
                n_in, n_out = next(pairs)
                parts = (*history, (f"talk/{talk}/{turn}/user", n_in))
                total = sum(length for _, length in parts)
                if limit is not None and total + n_out > limit:
                    raise InvalidInput(
                        f"turn {turn + 1} of a conversation needs {total}+{n_out} tokens, more than the {limit} the "
                        "engine takes; use fewer turns, shorter lengths or a larger max_model_len"
                    )
                items.append(Item(n_out=n_out, n_in=total, parts=parts, after=len(items) - 1 if turn else None))
                history = (*parts, (f"talk/{talk}/{turn}/answer", n_out))
            talk += 1
        return items

    def describe(self) -> dict[str, Any]:
        return describe_lengths(self.lengths) | {"turns": self.turns}


@dataclass(frozen=True, slots=True)
class Own:
    """A user's own rows: a trace with lengths, or prompts. ``output_len``: for rows without one.

    If there are fewer rows than requests, the rows repeat; a trace with times is played once.  ``rows_skipped``: number of
    rows of the file that were left out.  ``notes``: about the file, for the result.
    """

    name: str
    rows: Sequence[TraceRow] = field(repr=False)
    output_len: int | None = None
    rows_skipped: int = 0
    notes: tuple[str, ...] = ()

    def items(self, count: int, seed: int, limit: int | None = None) -> list[Item]:
        """``count`` requests. InvalidInput for a row without a length, or longer than ``limit``."""
        items: list[Item] = []
        for index in range(count):
            row = self.rows[index % len(self.rows)]
            after = index - 1 if row.follows else None
            n_out, n_in = row.n_out or self.output_len, row.n_in
            if n_out is None:
                raise InvalidInput(f"{self._where(row, index)} has no output length; give output_len")
            if limit is not None and n_in is not None and n_in + n_out > limit:
                raise InvalidInput(
                    f"{self._where(row, index)} needs {n_in}+{n_out} tokens, more than the {limit} the engine takes; "
                    "leave it out or use a larger max_model_len"
                )
            given = row.prompt is not None or row.messages is not None or row.prompt_ids is not None
            items.append(
                Item(
                    n_out=n_out,
                    n_in=n_in,
                    parts=None if given else _blocks_and_rest(row, index, index // len(self.rows)),
                    ids=row.prompt_ids,
                    text=None if row.prompt_ids is not None else row.prompt,
                    messages=None
                    if row.prompt_ids is not None or row.prompt is not None or row.messages is None
                    else (*_history(items, after, seed), *row.messages),
                    after=after,
                    at=row.at,
                    pause=row.pause,
                )
            )
        return items

    def longest(self) -> str | None:
        """File and line of the row that needs the most tokens; None if no row has an input length."""
        sized = [
            (row.n_in + (row.n_out or self.output_len or 0), index)
            for index, row in enumerate(self.rows)
            if row.n_in is not None
        ]
        if not sized:
            return None
        index = max(sized, key=lambda size: size[0])[1]
        row = self.rows[index]
        return f"{self._where(row, index)} needs {row.n_in}+{row.n_out or self.output_len or 0} tokens"

    def _where(self, row: TraceRow, index: int) -> str:
        return f"{self.name}: request {index + 1}" + ("" if row.line is None else f" (line {row.line})")

    def describe(self) -> dict[str, Any]:
        described: dict[str, Any] = {"workload": self.name, "requests_in_file": len(self.rows)}
        return described | ({"rows_skipped": self.rows_skipped} if self.rows_skipped else {})


def _history(items: Sequence[Item], after: int | None, seed: int) -> tuple[dict[str, Any], ...]:
    """The beginning of a later turn's prompt: the earlier turn's prompt and an answer to it.

    The answer has as many words as tokens: the engine's answer is unknown before the load starts.
    """
    if after is None:
        return ()
    answer = plain_text(items[after].n_out, f"{seed}/answer/{after}")
    return (*(items[after].messages or ()), {"role": "assistant", "content": answer})


def _blocks_and_rest(row: TraceRow, index: int, repeat: int) -> Parts:
    """The segments of a row without a prompt of its own: its blocks, then the tokens that no block covers.

    Each repetition of the trace has other blocks, so that the prefix cache does not contain the whole trace.
    """
    n_in = row.n_in or 1
    parts: list[tuple[str, int]] = []
    for position, block in enumerate(row.blocks):
        length = min(row.block_size, n_in - position * row.block_size)
        parts.append((f"block/{repeat}/{position}/{block}", length))
    rest = n_in - sum(length for _, length in parts)
    return (*parts, (f"own/{index}", rest)) if rest else tuple(parts)


def describe_lengths(pair: LengthPair) -> dict[str, Any]:
    """Fixed lengths as ``input_len`` and ``output_len``, other lengths by the name of their distribution."""
    if isinstance(pair.input, Fixed) and isinstance(pair.output, Fixed):
        return {"input_len": pair.input.tokens, "output_len": pair.output.tokens}
    scale = pair.input.scale if isinstance(pair.input, Quantiles) else 1.0
    return {"workload": pair.name} | ({"length_scale": scale} if scale != 1.0 else {})


def fixed(input_len: int, output_len: int) -> LengthPair:
    """Every request of the same lengths."""
    return LengthPair("fixed", Fixed(input_len), Fixed(output_len))
