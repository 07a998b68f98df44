"""What an exporter must offer."""

from __future__ import annotations

from typing import Protocol

from pytest_slmperf.model.result import Results


class Exporter(Protocol):
    """Writes results in another tool's format."""

    name: str
    suffix: str  # usual file ending, with the dot

    def export(self, results: Results) -> bytes: ...
