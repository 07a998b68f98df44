"""Runs of the plugin in a folder of their own, on the simulated engine unless a test says otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SUITE = """
import pytest

@pytest.mark.parametrize("batch", [1, 8])
def test_batch(slmperf, batch):
    slmperf.offline(batch=batch, input_len=16, output_len=16)
"""


@pytest.fixture
def perf(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """``perf(*args, suite=…)`` writes the suite once and runs pytest in a process of its own on the simulated engine."""
    for name in ("CI", "GITHUB_SHA", "CI_COMMIT_SHA"):  # the sessions under test run on a developer's machine
        monkeypatch.delenv(name, raising=False)

    def run(*args: str, suite: str = SUITE, engine: str | None = "simulated") -> pytest.RunResult:
        file = pytester.path / "test_perf.py"
        if not file.exists() or file.read_text() != suite:
            file.write_text(suite)
        chosen = ["--slmperf", "--slmperf-engine", engine] if engine else []
        # Plugins that these runs do not use, and that take longer to import than a run on the simulated engine takes.
        without = [part for name in ("cacheprovider", "hypothesispytest", "anyio") for part in ("-p", f"no:{name}")]
        return pytester.runpytest_subprocess(*without, *chosen, *args)

    return run


@pytest.fixture
def results(pytester: pytest.Pytester) -> Callable[[], dict[str, Any]]:
    """The results file of the last run."""
    return lambda: json.loads(Path(pytester.path, ".slmperf/results.json").read_text())
