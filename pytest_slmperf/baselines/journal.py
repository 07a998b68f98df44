"""The session's journal: each result is appended and flushed to the disk at once, so that a crash does not lose it.

``<state dir>/journal/<session id>.jsonl``: the first line holds session and machine, each further line one result. A line
with the id of an earlier line replaces it: a second run of the test, or a completed result (a sweep's advice).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from pytest_slmperf import redaction, text_out
from pytest_slmperf.baselines.stores.files import slug
from pytest_slmperf.errors import BaselineError
from pytest_slmperf.model.result import SCHEMA_VERSION, Machine, Result, Results, Session
from pytest_slmperf.model.results_file import check_facts, check_version, decoded, read_bytes, refuse_twice
from pytest_slmperf.util import files, read_file

KEPT_JOURNALS = 20


class _Head(msgspec.Struct, kw_only=True):
    session: Session
    machine: Machine
    schema_version: int = SCHEMA_VERSION


class Journal:
    """One session's journal. Nothing is written before the first result; a second process may append to the same file."""

    def __init__(self, state_dir: Path, session: Session, machine: Machine) -> None:
        self.folder = state_dir / "journal"
        self.path = self.folder / f"{slug(session.id, 80)}.jsonl"
        self._head = _Head(session=session, machine=machine)

    def append(self, result: Result) -> None:
        """Add one result. BaselineError if it cannot be written, ValueError for a value that JSON lacks."""
        with files.locked(self.folder):
            line = _line(result)
            if not read_file.exists(self.path):
                self._drop_oldest()
                files.append(self.path, _line(self._head))
            kept = self.path.stat().st_size + len(line)
            read_file.room(self.path, kept, read_file.MOST_JOURNAL, "measure fewer tests in one session")
            files.append(self.path, line)

    def results(self) -> Results:
        """All results so far, with session and machine by the current knowledge of this process."""
        results = read(self.path).results if read_file.exists(self.path) else []
        return Results(session=self._head.session, machine=self._head.machine, results=results)

    def _drop_oldest(self) -> None:
        journals = sorted(self.folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
        for path in journals[: max(0, len(journals) - KEPT_JOURNALS + 1)]:
            path.unlink(missing_ok=True)


def read(path: Path) -> Results:
    """Results from a journal, after a crash. The last result of a test counts; a note reports a line that was cut short.

    BaselineError if the file is not a journal.
    """
    lines = read_bytes(path, read_file.MOST_JOURNAL).rstrip(b"\n").split(b"\n")
    check_version(lines[0], path)
    head = decoded(lines[0], _Head, f"{path}: not a journal of pytest-slmperf", "give a results file or a journal")
    results: dict[str, Result] = {}
    notes = list(head.session.notes)
    for number, line in enumerate(lines[1:], start=2):
        try:
            result = msgspec.json.decode(line, type=Result)
            refuse_twice(line, f"{path}, line {number}")
        except msgspec.ValidationError as error:
            raise BaselineError(f"{path}, line {number}: {error}") from error
        except (msgspec.DecodeError, RecursionError):
            notes.append(f"line {number} of the journal was cut short; its result is lost")
            continue
        results.pop(result.id, None)
        results[result.id] = result
    head.session.notes = notes
    check_facts(head.machine, [result.scenario for result in results.values()], path)
    return Results(session=head.session, machine=head.machine, results=list(results.values()))


def _line(value: _Head | Result) -> bytes:
    """One line of strict JSON; plain msgspec would write NaN as null, which means "not measured"."""
    return text_out.json_text(redaction.hidden(msgspec.to_builtins(value)), indent=None).encode()
