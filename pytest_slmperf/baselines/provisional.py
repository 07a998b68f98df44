"""This machine's provisional baselines: a project's last sessions, in the user's cache until a baseline is approved.

They are used if no stored baseline is comparable, so that the second session on a new machine has verdicts.  They are not
in the repository, and losing them costs only these verdicts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pytest_slmperf.baselines import comparability
from pytest_slmperf.baselines.lookup import BaselineMatch, find
from pytest_slmperf.baselines.stores.files import FileStore
from pytest_slmperf.environment import fingerprint
from pytest_slmperf.errors import SlmperfError
from pytest_slmperf.model.baseline import Baseline
from pytest_slmperf.model.result import Machine, Result, Results, Session
from pytest_slmperf.model.verdict import NEXT_TIME, Verdict, worst
from pytest_slmperf.util.files import cache_folder, too_old

NAME = "provisional"
MOST_DAYS = 90  # without a session that was kept
MOST_BYTES = 64 * 2**20  # of all projects together


class ProvisionalBaselines:
    """The provisional baselines of one project. ``note``: receives a line about a failure to read or write."""

    def __init__(self, rootdir: Path, note: Callable[[str], None], cache: Path | None = None) -> None:
        self._all = (cache_folder() if cache is None else cache) / NAME
        project = hashlib.sha256(str(rootdir.resolve()).encode("utf-8", "surrogatepass")).hexdigest()[:12]
        self.store = FileStore(self._all / project)
        self._note = note

    def instead_of(self, stored: BaselineMatch, machine: Machine, result: Result, session: Session) -> BaselineMatch:
        """The provisional baseline if it is comparable; else ``stored``, with a note about the next session.

        ``stored``: the outcome of a look-up that found no comparable stored baseline.
        """
        try:
            match = find(self.store, machine, result, NAME, session=session)
        except (SlmperfError, OSError) as error:
            self._forget(machine, result, error)
            match = stored
        if match.comparable or self._answered_otherwise(match, machine, result):
            return replace(match, provisional=True)
        if not self._can_keep():
            return stored
        return replace(stored, reason=f"{stored.reason}; {NEXT_TIME}" if stored.reason else NEXT_TIME)

    def _answered_otherwise(self, match: BaselineMatch, machine: Machine, result: Result) -> bool:
        """Whether the answers of the last session had other lengths: other work, which must not pass for a new test."""
        baseline = match.baseline
        if baseline is None or baseline.name != NAME or baseline.fingerprint != fingerprint.of(machine, result.engine):
            return False
        return comparability.other_answers(baseline.work, comparability.work_of(result)) is not None

    def readable(self) -> list[Baseline]:
        """Every baseline of the project; none if one of them cannot be read."""
        try:
            return self.store.all(NAME)
        except (SlmperfError, OSError):
            return []

    def keep(self, results: Results) -> int:
        """Keep the results without a comparable stored baseline; returns their number."""
        count = 0
        try:
            for result in results.results:
                if self._keeps(result, results):
                    self.store.save(NAME, result, results.session, results.machine)
                    count += 1
            if count:
                self._prune()
        except (SlmperfError, OSError) as error:
            self._note(f"not kept as this machine's provisional baseline: {error}")
        return count

    def drop(self, results: Results) -> None:
        """Remove the tests of these results, which now have a stored baseline."""
        with contextlib.suppress(SlmperfError, OSError):
            for result in results.results:
                for baseline in self.store.elsewhere(NAME, result.id):
                    self.store.delete(baseline)

    def _keeps(self, result: Result, results: Results) -> bool:
        """Whether the next session may be compared with this result.

        A regressed result must not become the reference. An undecided result is kept only for the same code as before, since
        changes that are too small to be detected would otherwise add up over sessions.
        """
        if result.failure is not None or results.session.own_failure(result.id) is not None:
            return False
        if not any(any(value.launches) for value in result.metrics.values()):
            return False
        provisional = any(record.provisional for record in result.verdicts)
        if result.baseline is not None and not provisional:
            return False
        outcome = worst(record.verdict for record in result.verdicts if record.gate)
        if outcome is Verdict.REGRESSED:
            return False
        if not provisional or outcome in (Verdict.SAME, Verdict.IMPROVED):
            return True
        kept = self.store.load(fingerprint.of(results.machine, result.engine), NAME, result.id)
        commit = results.session.commit
        return kept is None or (commit.id is not None and kept.newest.commit == commit and not commit.dirty)

    def _can_keep(self) -> bool:
        """Whether the folder can be created and written; if not, nothing is announced for the next session."""
        try:
            self.store.root.mkdir(parents=True, exist_ok=True)
        except OSError:
            return False
        return os.access(self.store.root, os.W_OK | os.X_OK)

    def _forget(self, machine: Machine, result: Result, error: Exception) -> None:
        """Remove an unreadable file, so that this session's result can replace it."""
        path = self.store.path(fingerprint.of(machine, result.engine), NAME, result.id)
        with contextlib.suppress(OSError):
            path.unlink()
        self._note(f"{result.id}: the provisional baseline was unreadable and is made anew ({error})")

    def _prune(self) -> None:
        """Remove baselines without a new session for ``MOST_DAYS``, and the oldest beyond ``MOST_BYTES``."""
        files = sorted(((path.stat(), path) for path in self._all.rglob("*.json")), key=lambda pair: -pair[0].st_mtime)
        oldest, size = too_old([status.st_mtime for status, _ in files], MOST_DAYS), 0
        for status, path in files:
            size += status.st_size
            if size > MOST_BYTES or status.st_mtime < oldest:
                path.unlink(missing_ok=True)
