"""Baselines in files: ``<root>/<fingerprint>/<name>/<module>/<test>-<hash>.json``, one per test, made to be committed.

Histories are in ``<root>/<fingerprint>/.history/<module>/<test>-<hash>.jsonl``: one line per session, appended, so that they
merge and diff well. To keep them out of version control, ignore ``.history``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import msgspec

from pytest_slmperf.baselines import builder, codec
from pytest_slmperf.baselines.codec import KEPT_HISTORY
from pytest_slmperf.baselines.store import Store, check_name
from pytest_slmperf.environment import fingerprint as fingerprints
from pytest_slmperf.errors import BaselineError
from pytest_slmperf.model.baseline import Baseline, HistoryPoint
from pytest_slmperf.model.result import SCHEMA_VERSION, Machine, Result, Session
from pytest_slmperf.model.results_file import RESTORE, check_version, read_bytes
from pytest_slmperf.util import files as atomic_write
from pytest_slmperf.util import read_file

# Safe file names for external names: a test id may contain anything.

_MODULE_LENGTH = 80
_TEST_LENGTH = 60


def slug(text: str, length: int) -> str:
    """``text`` in letters, digits, '.', '_' and '-', at most ``length`` long, never empty and never hidden."""
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-._")
    return plain[:length].rstrip("-._") or "test"


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def file_for(test_id: str, suffix: str) -> PurePosixPath:
    """``module-slug/test-slug-hash8`` + suffix. The hash is of the whole id, so that tests never share a file."""
    module, _, test = test_id.partition("::")
    if not test:
        module, test = "tests", module
    folder = slug(module.removesuffix(".py").replace("/", "."), _MODULE_LENGTH)
    return PurePosixPath(folder) / f"{slug(test, _TEST_LENGTH)}-{short_hash(test_id)}{suffix}"


_HISTORY = ".history"


class FileStore(Store):
    """Baselines below the folder ``root``, which may not exist yet."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def __str__(self) -> str:
        return str(self.root)

    def path(self, fingerprint: str, name: str, test_id: str) -> Path:
        return self.root / fingerprint / check_name(name) / file_for(test_id, ".json")

    def load(self, fingerprint: str, name: str, test_id: str) -> Baseline | None:
        path = self.path(fingerprint, name, test_id)
        return self._read(path) if read_file.exists(path) else None

    def elsewhere(self, name: str, test_id: str) -> list[Baseline]:
        paths = (folder / check_name(name) / file_for(test_id, ".json") for folder in self._folders())
        return [self._read(path) for path in paths if read_file.exists(path)]

    def all(self, name: str | None = None) -> list[Baseline]:
        return [self._read(path) for path in self.paths(name)]

    def paths(self, name: str | None = None) -> Iterator[Path]:
        """The file of every baseline (of that name), in order."""
        for folder in self._folders():
            for named in read_file.entries(folder):
                if name in (None, named.name) and read_file.is_folder(named):
                    yield from read_file.files_below(named, ".json", 1)

    def update(
        self, fingerprint: str, name: str, test_id: str, change: Callable[[Baseline | None], Baseline]
    ) -> Baseline:
        with atomic_write.locked(self.root / fingerprint):
            baseline = change(self.load(fingerprint, name, test_id))
            path = self.path(fingerprint, name, test_id)
            atomic_write.drop_leftovers(path.parent)
            _write(path, baseline)
        return baseline

    def put(self, baseline: Baseline) -> None:
        with atomic_write.locked(self.root / baseline.fingerprint):
            path = self.path(baseline.fingerprint, baseline.name, baseline.id)
            if read_file.exists(path):
                self._read(path)  # raises for an unreadable file, which must not be overwritten
            _write(path, baseline)

    def delete(self, baseline: Baseline) -> None:
        with atomic_write.locked(self.root / baseline.fingerprint):
            self._remove(self.path(baseline.fingerprint, baseline.name, baseline.id))

    def rename(self, fingerprint: str, test_id: str, new_id: str) -> None:
        folder = self.root / fingerprint
        with atomic_write.locked(folder):
            moved = self._named(fingerprint, test_id)
            for baseline in moved:
                baseline.id = new_id
                path = self.path(fingerprint, baseline.name, new_id)
                # Equal except for its id: written by an interrupted renaming.
                if read_file.exists(path) and self._read(path) != baseline:
                    raise BaselineError(
                        f"{path}: {new_id!r} has a baseline {baseline.name!r} already; delete one of the two first"
                    )
            for baseline in moved:  # written before the old file is removed: a crash in between loses nothing
                _write(self.path(fingerprint, baseline.name, new_id), baseline)
                self._remove(self.path(fingerprint, baseline.name, test_id))
            old, new = (folder / _HISTORY / file_for(name, ".jsonl") for name in (test_id, new_id))
            if read_file.exists(old):
                points = self._read_history(old)[1] + (self._read_history(new)[1] if read_file.exists(new) else [])
                self._write_history(new, new_id, _once(points))
                self._remove(old)

    def _named(self, fingerprint: str, test_id: str) -> list[Baseline]:
        """A test's baselines of every name under one fingerprint."""
        file = file_for(test_id, ".json")
        folders = read_file.entries(self.root / fingerprint)
        return [self._read(folder / file) for folder in folders if read_file.exists(folder / file)]

    def _remove(self, path: Path) -> None:
        """Remove a file, and the folders that it leaves empty."""
        try:
            path.unlink(missing_ok=True)
            for folder in (path.parent, path.parent.parent):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
        except OSError as error:
            raise atomic_write.cannot_write(path, error) from error

    def remember(self, result: Result, session: Session, machine: Machine, *, approved: bool = False) -> None:
        point = builder.point_of(result, session, approved)
        folder = self.root / fingerprints.of(machine, result.engine)
        path = folder / _HISTORY / file_for(result.id, ".jsonl")
        with atomic_write.locked(folder):
            if read_file.exists(path):
                self._read_history(path)  # raises for an unreadable file, which must not be extended
            else:
                atomic_write.append(path, msgspec.json.encode({"test": result.id, "schema_version": SCHEMA_VERSION}))
            atomic_write.append(path, codec.line(point))
            head, points = self._read_history(path)
            # rewritten from time to time, not at every append
            if len(points) > KEPT_HISTORY + KEPT_HISTORY // 10 or path.stat().st_size > read_file.MOST_HISTORY:
                self._write_history(path, head, points[-KEPT_HISTORY:])

    def history(self, fingerprint: str, test_id: str) -> list[HistoryPoint]:
        path = self.root / fingerprint / _HISTORY / file_for(test_id, ".jsonl")
        if not read_file.exists(path):
            return []
        return _once(self._read_history(path)[1])

    def fingerprints(self) -> list[str]:
        return [folder.name for folder in self._folders()]

    def history_tests(self, fingerprint: str) -> list[str]:
        return [self._read_history(path)[0] for path in _histories(self.root / fingerprint)]

    def prune_history(self, keep: int) -> int:
        removed = 0
        for folder in self._folders():
            with atomic_write.locked(folder):
                for path in _histories(folder):
                    head, points = self._read_history(path)
                    if len(points) > keep:
                        removed += len(points) - keep
                        self._write_history(path, head, points[len(points) - keep :])
        return removed

    def _folders(self) -> list[Path]:
        """One folder per fingerprint."""
        return [path for path in read_file.entries(self.root) if read_file.is_folder(path)]

    def _read(self, path: Path) -> Baseline:
        fingerprint, name = path.parts[-4:-2]
        baseline = codec.decode(read_bytes(path, read_file.MOST_BASELINE), str(path), fingerprint, name)
        # "?" replaces characters that UTF-8 lacks; the file of such an id does not follow from it.
        if file_for(baseline.id, ".json") != PurePosixPath(*path.parts[-2:]) and "?" not in baseline.id:
            raise BaselineError(
                f"{path}: its field 'id' is {baseline.id!r}, whose file is {file_for(baseline.id, '.json')}; was it copied "
                "or edited by hand? Restore it from version control, or delete it to start anew"
            )
        return baseline

    def _read_history(self, path: Path) -> tuple[str, list[HistoryPoint]]:
        """(test id, points): the newest points within the limit of reading. A line that is not JSON, such as a line that a
        crash has cut short, is ignored; any other fault raises."""
        first, rows = read_file.newest_lines(path, read_file.MOST_HISTORY, read_file.MOST_BASELINE)
        if not first and not rows:
            raise BaselineError(f"{path}: the file is empty; {RESTORE}")
        check_version(first, path)
        try:
            head = str(msgspec.json.decode(first)["test"])
        except (KeyError, TypeError, msgspec.DecodeError) as error:
            raise BaselineError(
                f"{path}: the first line does not name the test; delete the file to start anew"
            ) from error
        points = []
        for number, row in enumerate(rows, start=2):
            try:
                msgspec.json.decode(row)
            except (msgspec.DecodeError, RecursionError):
                continue
            points.append(codec.decode_row(row, f"{path}, line {number}", HistoryPoint))
        return head, points

    def _write_history(self, path: Path, test_id: str, points: list[HistoryPoint]) -> None:
        head = msgspec.json.encode({"test": test_id, "schema_version": SCHEMA_VERSION}) + b"\n"
        # Half of the limit of reading, which leaves room for appending.
        atomic_write.replace(path, head + b"".join(codec.thinned(points, read_file.MOST_HISTORY // 2)))


def _write(path: Path, baseline: Baseline) -> None:
    data = codec.render(baseline)
    read_file.room(path, len(data), read_file.MOST_BASELINE, codec.SMALLER)
    atomic_write.replace(path, data)


def _histories(folder: Path) -> list[Path]:
    return list(read_file.files_below(folder / _HISTORY, ".jsonl", 1))


def _once(points: list[HistoryPoint]) -> list[HistoryPoint]:
    """The points, oldest first; for a session that was saved twice, the newer point."""
    newest = {point.session: point for point in points}
    return sorted(newest.values(), key=lambda point: point.started_at)
