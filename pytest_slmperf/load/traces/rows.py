"""A trace in memory: its rows, and what of the file was not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload


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

    ``unread``: columns that nothing was read from.  ``skipped``: rows of 0 tokens that were left out on request.
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
        """Whether prompts begin with the same tokens by design, which a prefix cache is to find."""
        return any(row.blocks or row.follows for row in self.rows)

    def notes(self) -> tuple[str, ...]:
        """What a result says of the file: columns that were not read, rows that were left out."""
        notes = []
        if self.unread:
            notes.append(f"{self.name}: columns that were not read: {', '.join(self.unread)}")
        if self.skipped:
            total = self.skipped + len(self.rows)
            notes.append(f"{self.name}: {self.skipped} of {total} rows were skipped because they have 0 tokens")
        return tuple(notes)
