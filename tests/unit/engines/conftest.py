"""Engines for these tests: simulated ones, in real processes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.process import EngineProcess
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.engines.simulated.adapter import SimulatedAdapter
from pytest_slmperf.model.engine_spec import EngineSpec


@pytest.fixture(autouse=True)
def own_device_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here measures, so nothing here waits for who does on this machine."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[EnginePool]:
    with EnginePool(Registry(builtin_adapters()), tmp_path / "logs") as pool:
        yield pool


class Launcher:
    """Starts simulated engines and stops what is left at the end of the test."""

    def __init__(self, log_dir: Path) -> None:
        self.adapter = SimulatedAdapter()
        self.log_dir = log_dir
        self.started: list[EngineProcess] = []
        self.progress: list[str] = []

    def __call__(self, **changes: Any) -> EngineProcess:
        spec = self.adapter.resolve(EngineSpec("simulated", "opt-125m").with_settings(**changes))
        log_path = self.log_dir / f"{len(self.started)}.log"
        engine = self.adapter.launch(spec, log_path=log_path, progress=self.progress.append)
        self.started.append(engine)
        return engine


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path)
    yield launcher
    for engine in launcher.started:
        engine.stop()
