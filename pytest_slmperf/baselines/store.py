"""What a baseline is, and the interface of the places where baselines are kept.

A baseline holds the launches of one test from several sessions, on one fingerprint, under one name ("main" by default).
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, Protocol

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.metrics.registry import known
from pytest_slmperf.model.baseline import Baseline, HistoryPoint
from pytest_slmperf.model.result import Machine, Result, Session
from pytest_slmperf.util.checks import is_number

DEFAULT_NAME = "main"
KEPT_SESSIONS = 8  # newest sessions kept in one baseline: enough to see what differs between sessions

# What happens to the sessions that are there already: kept beside the new one, dropped, or whichever fits the verdicts.
Mode = Literal["auto", "extend", "replace"]


class Reader(Protocol):
    """What a look-up needs of a store."""

    def load(self, fingerprint: str, name: str, test_id: str) -> Baseline | None:
        """The baseline, None where there is none."""

    def elsewhere(self, name: str, test_id: str) -> list[Baseline]:
        """Baselines of that test under every fingerprint, to say what differs."""


class Store(ABC):
    """A place where baselines and the history are kept. Every method must be written, and raises BaselineError that names
    the file or table."""

    @abstractmethod
    def load(self, fingerprint: str, name: str, test_id: str) -> Baseline | None:
        """The baseline, None where there is none."""

    @abstractmethod
    def elsewhere(self, name: str, test_id: str) -> list[Baseline]:
        """Baselines of that test under every fingerprint, to say what differs."""

    @abstractmethod
    def save(
        self,
        name: str,
        result: Result,
        session: Session,
        machine: Machine,
        reason: str | None = None,
        *,
        approved_at: str | None = None,
        mode: Mode = "auto",
    ) -> Baseline:
        """Add a session's launches of one test, and return the baseline as it now is."""

    @abstractmethod
    def all(self, name: str | None = None) -> list[Baseline]:
        """Every baseline (of that name), ordered by fingerprint, name and test."""

    @abstractmethod
    def put(self, baseline: Baseline) -> None:
        """Write a baseline as it is, in place of what is there."""

    @abstractmethod
    def delete(self, baseline: Baseline) -> None:
        """Remove a baseline; nothing happens where there is none."""

    @abstractmethod
    def rename(self, fingerprint: str, test_id: str, new_id: str) -> None:
        """Give a test's baselines (of every name) and its history under that fingerprint another test id.

        BaselineError, and nothing changed, where the new id has another baseline of the same name. A renaming that was
        interrupted is ended by the next.
        """

    @abstractmethod
    def remember(self, result: Result, session: Session, machine: Machine, *, approved: bool = False) -> None:
        """Append a session's result to the history of its test."""

    @abstractmethod
    def history(self, fingerprint: str, test_id: str) -> list[HistoryPoint]:
        """The history of a test, oldest first."""

    @abstractmethod
    def fingerprints(self) -> list[str]:
        """Every system that has a baseline or a history."""

    @abstractmethod
    def history_tests(self, fingerprint: str) -> list[str]:
        """Ids of the tests that have a history under that fingerprint."""

    @abstractmethod
    def prune_history(self, keep: int) -> int:
        """Keep the newest ``keep`` points of every test; returns how many were removed."""


def check_name(name: str) -> str:
    """A baseline's name, refused when it could not be a folder's name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise InvalidInput(
            f"baseline name {name!r}: use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
        )
    return name


def usable_rounds(where: str, metric: str, launches: Sequence[Sequence[float]]) -> list[list[float]]:
    """The launches with every value checked: a baseline holds finite numbers only, none below 0, and none that is 0
    where the metric cannot be.

    Raises InvalidInput naming ``where`` (the test, or a session of it), metric, launch and round, so that a wrong
    reading never becomes what others are compared with.
    """
    registered = known(metric)
    least = "> 0" if registered is not None and registered.positive else "≥ 0"
    for number, launch in enumerate(launches, start=1):
        for place, value in enumerate(launch, start=1):
            usable = is_number(value) and math.isfinite(value)
            if not usable or value < 0 or (value == 0 and least == "> 0"):
                raise InvalidInput(
                    f"{where}: metric {metric!r} has the value {value!r} in launch {number}, round {place}, where a "
                    f"baseline holds finite numbers {least}"
                )
    return [list(launch) for launch in launches if launch]
