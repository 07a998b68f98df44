"""The formats of traces, each known by its columns: the names of its columns and the unit of its times."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

Unit = Literal["s", "ms"]

# Names of a file that follows no published format; times in seconds where the name is not ambiguous.
TIME_NAMES = ("arrival_time", "arrival", "timestamp", "time", "t")
INPUT_NAMES = ("input_len", "input_length", "contexttokens", "request tokens", "prompt_len", "prompt_tokens", "n_in")
OUTPUT_NAMES = (
    "output_len",
    "output_length",
    "generatedtokens",
    "response tokens",
    "output_tokens",
    "max_tokens",
    "n_out",
)


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """A format. ``required``: columns by which a file is known to have it.

    ``unit``: of its times where they are numbers, None where the columns leave it open.  ``block_size``: tokens behind each
    of its ``hash_ids``, 0 where it has none.  ``messages``: the column with the turns of a chat.
    """

    name: str
    required: frozenset[str] = frozenset()
    unit: Unit | None = None
    time: tuple[str, ...] = TIME_NAMES
    n_in: tuple[str, ...] = INPUT_NAMES
    n_out: tuple[str, ...] = OUTPUT_NAMES
    text: tuple[str, ...] = ("prompt",)
    block_size: int = 0

    def fits(self, columns: AbstractSet[str]) -> bool:
        return self.required <= columns

    def unit_of(self, column: str) -> Unit | None:
        """The unit of a column of numbers, None where it is ambiguous."""
        return self.unit or (None if column == "timestamp" else "s")


def _format(name: str, required: tuple[str, ...], unit: Unit | None = None, block_size: int = 0) -> TraceFormat:
    return TraceFormat(name, frozenset(required), unit, block_size=block_size)


# A format stands before those whose columns it has as well.
FORMATS = (
    # seconds and blocks of 16 tokens, where Mooncake has milliseconds and 512
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
)
OWN_COLUMNS = TraceFormat("columns of its own")


def format_of(columns: AbstractSet[str]) -> TraceFormat:
    """The format of a file with these columns (lower case)."""
    return next((known for known in FORMATS if known.fits(columns)), OWN_COLUMNS)
