"""The folder of a row: its own home, temporary folder and environment, on the simulated engine."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import table
from support import in_process


@pytest.fixture(scope="session", autouse=True)
def _imported() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a background job; what is started would ignore it too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    in_process.import_what_runs_share()


@pytest.fixture
def bench(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, keep_vega: Callable[[Path], None]) -> table.Bench:
    """What a row acts on."""
    for name in ("CI", "GITHUB_SHA", "CI_COMMIT_SHA", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT",
                 "XDG_CACHE_HOME", "OPENAI_API_KEY"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(table.MARK, str(pytester.path))
    temporary = pytester.path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    keep_vega(pytester.path)

    def run(*arguments: str, process: bool) -> table.Ended:
        if process:
            result = pytester.runpytest_subprocess(*table.WITHOUT, *arguments, timeout=table.TIMEOUT_S)
        else:
            result = in_process.run(pytester, *table.WITHOUT, *arguments)
        return table.Ended(int(result.ret), "\n".join([*result.outlines, *result.errlines]))

    return table.Bench(pytester.path, run)
