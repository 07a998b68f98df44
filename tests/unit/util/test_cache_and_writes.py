"""Files that grow: logs and journals are kept within bounds, the newest first."""

from __future__ import annotations

import os

from pytest_slmperf.util import files


def test_a_long_log_keeps_its_newer_half_from_a_lines_start_on(tmp_path):
    log = tmp_path / "engine.log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(1000)))
    files.shorten(log, 1000)
    lines = log.read_text().splitlines()
    assert log.stat().st_size <= 500
    assert lines == [f"line {number}" for number in range(1000 - len(lines), 1000)]
    files.shorten(log, 1000)
    assert log.read_text().splitlines() == lines
    files.shorten(tmp_path / "none.log", 1000)


def test_the_oldest_files_go_first(tmp_path):
    for number in range(5):
        path = tmp_path / f"{number}.log"
        path.write_bytes(b"x" * 100)
        os.utime(path, (2e9 + number, 2e9 + number))
    (tmp_path / "other.txt").write_text("x" * 1000)
    files.keep_newest(tmp_path, "*.log", 250, 1e6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3.log", "4.log", "other.txt"]
    os.utime(tmp_path / "3.log", (0, 0))
    files.keep_newest(tmp_path, "*.log", 250, 30.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4.log", "other.txt"]
    files.keep_newest(tmp_path / "none", "*.log", 1, 1.0)
