"""Runs of the plugin in a folder of their own, on the simulated engine unless a test says otherwise."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import in_process

SUITE = """
import pytest

@pytest.mark.parametrize("batch", [1, 8])
def test_batch(slmperf, batch):
    slmperf.offline(batch=batch, input_len=16, output_len=16)
"""


@pytest.fixture(scope="session", autouse=True)
def _imported() -> None:
    in_process.import_what_runs_share()


@pytest.fixture
def perf(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, keep_vega: Callable[[Path], None]
) -> Callable[..., pytest.RunResult]:
    """``perf(*args, suite=…)`` writes the suite once and runs pytest on the simulated engine.

    ``local``: the session may compare with the machine's earlier ones; else with stored baselines only.
    The run shares the process of the test, unless ``process`` asks for one, or its workers (``-n``) or the fake NVML
    library (which the dynamic loader finds by its environment) need one.
    """
    for name in ("CI", "GITHUB_SHA", "CI_COMMIT_SHA"):  # the sessions under test run on a developer's machine
        monkeypatch.delenv(name, raising=False)
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    keep_vega(pytester.path)  # pytester makes this folder the HOME

    def run(
        *args: str, suite: str = SUITE, engine: str | None = "simulated", process: bool = False, local: bool = False
    ) -> pytest.RunResult:
        file = pytester.path / "test_perf.py"
        if not file.exists() or file.read_text() != suite:
            file.write_text(suite)
        chosen = ["--slmperf", "--slmperf-engine", engine] if engine else []
        chosen += [] if local else ["--slmperf-no-local"]
        # Plugins that these runs do not use, and that take longer to import than a run on the simulated engine takes.
        without = [
            part
            for name in ("cacheprovider", "hypothesispytest", "anyio", "rerunfailures", "pytest_forked")
            for part in ("-p", f"no:{name}")
        ]
        if process or "-n" in args or "SLMPERF_FAKE_NVML" in os.environ:
            return pytester.runpytest_subprocess(*without, *chosen, *args)
        return in_process.run(pytester, *without, *chosen, *args)

    return run


@pytest.fixture
def results(pytester: pytest.Pytester) -> Callable[[], dict[str, Any]]:
    """The results file of the last run."""
    return lambda: json.loads(Path(pytester.path, ".slmperf/results.json").read_text())
