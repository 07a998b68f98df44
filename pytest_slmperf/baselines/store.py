"""The interface of stores, which keep baselines and histories.

A baseline has the launches of one test from several sessions, under one fingerprint and one name ("main" by default).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from pytest_slmperf.baselines import builder
from pytest_slmperf.baselines.builder import Mode
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.baseline import Baseline, HistoryPoint
from pytest_slmperf.model.result import Machine, Result, Session

DEFAULT_NAME = "main"


class Reader(Protocol):
    """The part of a store that a look-up needs."""

    def load(self, fingerprint: str, name: str, test_id: str) -> Baseline | None:
        """The baseline, None where there is none."""

    def elsewhere(self, name: str, test_id: str) -> list[Baseline]:
        """Baselines of that test under every fingerprint, to say what differs."""


class Store(ABC):
    """A place where baselines and histories are kept.

    A subclass must write every method except ``save``. Errors of the place are BaselineError with the file or table.
    """

    @abstractmethod
    def load(self, fingerprint: str, name: str, test_id: str) -> Baseline | None:
        """The baseline, None where there is none."""

    @abstractmethod
    def elsewhere(self, name: str, test_id: str) -> list[Baseline]:
        """Baselines of that test under every fingerprint, to say what differs."""

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
        """Add a session's launches of one test, and return the stored baseline. Final."""
        new = builder.from_result(check_name(name), result, session, machine, reason, approved_at)
        return self.update(new.fingerprint, name, result.id, lambda old: builder.merged(old, new, mode, result))

    @abstractmethod
    def update(
        self, fingerprint: str, name: str, test_id: str, change: Callable[[Baseline | None], Baseline]
    ) -> Baseline:
        """Replace the stored baseline (None: there is none) by ``change`` of it, and return the new one.

        No other session may write between reading and writing: what it saved would be lost.
        """

    @abstractmethod
    def all(self, name: str | None = None) -> list[Baseline]:
        """Every baseline (with this ``name``), ordered by fingerprint, name and test."""

    @abstractmethod
    def put(self, baseline: Baseline) -> None:
        """Write a baseline as it is, replacing a stored one."""

    @abstractmethod
    def delete(self, baseline: Baseline) -> None:
        """Remove a baseline; does nothing if there is none."""

    @abstractmethod
    def rename(self, fingerprint: str, test_id: str, new_id: str) -> None:
        """Move a test's baselines (of every name) and its history under ``fingerprint`` to ``new_id``.

        BaselineError, without any change, if the new id has another baseline of the same name. Calling it again completes
        an interrupted renaming.
        """

    @abstractmethod
    def remember(self, result: Result, session: Session, machine: Machine, *, approved: bool = False) -> None:
        """Append a session's result to the history of its test."""

    @abstractmethod
    def history(self, fingerprint: str, test_id: str) -> list[HistoryPoint]:
        """The history of a test, oldest first."""

    @abstractmethod
    def fingerprints(self) -> list[str]:
        """Every fingerprint with a baseline or a history."""

    @abstractmethod
    def history_tests(self, fingerprint: str) -> list[str]:
        """Ids of the tests with a history under ``fingerprint``."""

    @abstractmethod
    def prune_history(self, keep: int) -> int:
        """Keep the newest ``keep`` points of every test; returns the number of removed points."""


def check_name(name: str) -> str:
    """The name of a baseline; InvalidInput unless it can be the name of a folder."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise InvalidInput(
            f"baseline name {name!r}: use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
        )
    return name
