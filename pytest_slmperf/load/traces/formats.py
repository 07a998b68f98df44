"""The formats of traces, recognised by their columns, with the unit of their times; and a trace in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Literal, overload

Unit = Literal["s", "ms"]
Shape = Literal["request", "turns", "sharegpt"]

# Column names of a file without a published format; times are in seconds if the name is not ambiguous.
TIME_NAMES = ("arrival_time", "arrival", "timestamp", "time", "t")
INPUT_NAMES = (
    "input_len",
    "input_length",
    "contexttokens",
    "request tokens",
    "prompt_len",
    "prompt_tokens",
    "input_tokens",
    "n_in",
)
OUTPUT_NAMES = (
    "output_len",
    "output_length",
    "generatedtokens",
    "response tokens",
    "output_tokens",
    "completion_tokens",
    "max_tokens",
    "n_out",
)


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """A format. ``required``: columns by which a file is known to have it.

    ``unit``: of its times where they are numbers, None where the columns leave it open.  ``block_size``: tokens behind each
    of its ``hash_ids``, 0 where it has none.  ``shape``: what a record holds: a request, the turns of a conversation, or a
    conversation whose first message is the prompt.  ``text_only``: the format knows images and the like, which cannot be
    sent.  ``allowed``: the only columns that a file of this format may have, None where
    others do no harm.
    """

    name: str
    required: frozenset[str] = frozenset()
    unit: Unit | None = None
    time: tuple[str, ...] = TIME_NAMES
    n_in: tuple[str, ...] = INPUT_NAMES
    n_out: tuple[str, ...] = OUTPUT_NAMES
    text: tuple[str, ...] = ("prompt",)
    block_size: int = 0
    allowed: frozenset[str] | None = None
    shape: Shape = "request"
    text_only: bool = False

    def fits(self, columns: AbstractSet[str]) -> bool:
        return self.required <= columns and (self.allowed is None or columns <= self.allowed)

    def unit_of(self, column: str) -> Unit | None:
        """The unit of a column of numbers, None where it is ambiguous."""
        return self.unit or (None if column == "timestamp" else "s")


def _format(name: str, required: tuple[str, ...], unit: Unit | None = None, block_size: int = 0) -> TraceFormat:
    return TraceFormat(name, frozenset(required), unit, block_size=block_size)


def _guidellm(count: str) -> TraceFormat:
    return TraceFormat(
        "GuideLLM",
        frozenset({count}),
        n_in=("prompt_tokens_count", "input_tokens_count"),
        n_out=("output_tokens_count", "completion_tokens_count"),
        text=("prompt", "instruction", "question", "input", "context", "content", "text"),
    )


def _single_turn(text: str) -> TraceFormat:
    """AIPerf's file of single turns, which has no output lengths of its own: any of the usual names may add them."""
    return TraceFormat(
        "AIPerf single-turn",
        frozenset({text}),
        "ms",
        time=("timestamp",),
        text=("text", "texts"),
        text_only=True,
        allowed=frozenset({"type", "text", "texts", "timestamp", "delay", "role", *OTHER_MEDIA, *OUTPUT_NAMES}),
    )


# names of columns that hold the time at which a request came, whatever else they say
LIKE_A_TIME = re.compile(
    r".*(arriv|timestamp).*|(request|start|send|sent|issue)[_ ]?(time|at|ts)\b.*|time[_ ]?(ms|us|ns|sec|s)|ts([_ ].*)?"
)
OTHER_MEDIA = ("image", "images", "audio", "audios", "video", "videos")  # other contents of AIPerf's turns


# A format precedes formats whose columns it includes.
FORMATS = (
    # Seconds and blocks of 16 tokens, in contrast to Mooncake's milliseconds and 512.
    _format("Bailian", ("chat_id", "timestamp", "input_length", "output_length", "hash_ids"), "s", 16),
    _format("Mooncake", ("timestamp", "input_length", "output_length", "hash_ids"), "ms", 512),
    _format("Azure", ("timestamp", "contexttokens", "generatedtokens")),  # dates, in the layouts of 2023 and 2024
    _format("BurstGPT", ("timestamp", "request tokens", "response tokens"), "s"),
    TraceFormat(
        "Vidur",
        frozenset({"num_prefill_tokens", "num_decode_tokens"}),
        "s",
        time=("arrived_at",),
        n_in=("num_prefill_tokens",),
        n_out=("num_decode_tokens",),
    ),
    TraceFormat("Mooncake with text", frozenset({"text_input"}), "ms", time=("timestamp",), text=("text_input",)),
    TraceFormat(
        "AIPerf multi-turn",
        frozenset({"turns"}),
        "ms",
        time=("timestamp",),
        text=("text", "texts"),
        text_only=True,
        shape="turns",
    ),
    TraceFormat("ShareGPT", frozenset({"conversations"}), shape="sharegpt"),
    *map(_guidellm, ("prompt_tokens_count", "input_tokens_count", "output_tokens_count", "completion_tokens_count")),
    _format("vLLM custom", ("prompt", "output_tokens")),
    *map(_single_turn, ("text", "texts")),
)
OWN_COLUMNS = TraceFormat("columns of its own")


def format_of(columns: AbstractSet[str]) -> TraceFormat:
    """The format of a file with these columns (lower case)."""
    return next((known for known in FORMATS if known.fits(columns)), OWN_COLUMNS)


# A trace in memory.


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of a trace. ``at``: seconds since the first request, None where the file has no times.

    Either ``n_in`` is given (a prompt of that length is made) or the user's own ``prompt``, ``messages`` or
    ``prompt_ids``.  ``blocks``: ids of the prompt's blocks of ``block_size`` tokens; two requests with the same id in the
    same position share these tokens.  ``follows``: the row is a turn that waits ``pause`` seconds after the answer to the
    row before it; its ``messages`` are those that the turn adds.  ``line``: of the file (in a JSON list the place of the
    entry), None for a row that was made in Python.
    """

    at: float | None
    n_in: int | None
    n_out: int | None
    prompt: str | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    prompt_ids: tuple[int, ...] | None = None
    blocks: tuple[int, ...] = ()
    block_size: int = 0
    follows: bool = False
    pause: float = 0.0
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Trace(Sequence[TraceRow]):
    """The rows of a file in the order of their times.

    ``unread``: columns that were not read.  ``skipped``: number of rows of 0 tokens that were left out on request.
    """

    name: str
    rows: tuple[TraceRow, ...]
    format: str = "columns of its own"
    unread: tuple[str, ...] = ()
    skipped: int = 0

    @overload
    def __getitem__(self, index: int) -> TraceRow: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[TraceRow, ...]: ...

    def __getitem__(self, index: int | slice) -> TraceRow | tuple[TraceRow, ...]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[TraceRow]:
        return iter(self.rows)

    @property
    def shares_tokens(self) -> bool:
        """Whether prompts share their first tokens by design, for a prefix cache."""
        return any(row.blocks or row.follows for row in self.rows)

    def notes(self) -> tuple[str, ...]:
        """Notes for the result about the file: columns that were not read, rows that were left out."""
        notes = []
        if self.unread:
            notes.append(f"{self.name}: columns that were not read: {', '.join(self.unread)}")
        if self.skipped:
            total = self.skipped + len(self.rows)
            notes.append(f"{self.name}: {self.skipped} of {total} rows were skipped because they have 0 tokens")
        return tuple(notes)
