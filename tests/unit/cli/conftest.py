from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pytest_slmperf.cli import main as cli
from pytest_slmperf.model.result import Results
from pytest_slmperf.model.results_file import encode


class Run(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def command(tmp_path, monkeypatch, capsys) -> Callable[..., Run]:
    """Runs the command in an empty folder, in this process; SystemExit of argparse becomes the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*words: str | Path) -> Run:
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    return run


@pytest.fixture
def write(tmp_path) -> Callable[[str, Results], Path]:
    def write_results(name: str, results: Results) -> Path:
        path = tmp_path / name
        path.write_bytes(encode(results))
        return path

    return write_results
