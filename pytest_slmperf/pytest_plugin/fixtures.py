"""The fixtures of performance tests: ``slmperf``, ``slm_engine``, ``energy_meter``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_slmperf.pytest_plugin.test_state import SKIPPED, TEST, TestState

if TYPE_CHECKING:
    from pytest_slmperf.energy.base import EnergyMeter
    from pytest_slmperf.engines.base import Engine
    from pytest_slmperf.model.engine_spec import EngineSpec
    from pytest_slmperf.pytest_plugin.context import SessionContext
    from pytest_slmperf.pytest_plugin.slmperf_fixture import Slmperf


class EngineRef:
    """The engine of a test: its description at once; it starts at the first use and is then resident for the session."""

    def __init__(self, context: SessionContext, spec: EngineSpec) -> None:
        self._context = context
        self.spec = spec

    @property
    def engine(self) -> Engine:
        """The running engine (launch 0 of its specification)."""
        measuring = self._context.measuring
        return measuring.pool.acquire(measuring.resolve(self.spec), 0)

    @property
    def facts(self) -> dict[str, Any]:
        """The engine's own description: version, device, weights, dtype, …"""
        return self.engine.facts

    def __repr__(self) -> str:
        return f"<{self.spec.engine} serving {self.spec.model}>"


@pytest.fixture
def slm_engine(request: pytest.FixtureRequest) -> EngineRef:
    """The engine under test, resident for the session and pooled by its specification.

    Parametrize it indirectly with a mapping to change fields of the specification or engine arguments:
    ``@pytest.mark.parametrize("slm_engine", [{"model": "opt-350m"}], indirect=True)``.
    """
    from pytest_slmperf.pytest_plugin import setting_table, settings

    context = _context(request, "slm_engine")
    spec = settings.base_spec(request.config, setting_table.merged(request.node))
    changes = getattr(request, "param", None)
    if changes is not None:
        spec = spec.with_settings(**changes)
        request.node.stash[TEST].spec = spec
    return EngineRef(context, spec)


@pytest.fixture
def energy_meter(request: pytest.FixtureRequest) -> EnergyMeter:
    """The energy meter of the session. Without a meter, ``available`` is False, and ``reason`` names the cause."""
    return _context(request, "energy_meter").measuring.meter


@pytest.fixture
def slmperf(request: pytest.FixtureRequest) -> Slmperf:
    """Measures a scenario, records its result, compares it with the baseline."""
    from pytest_slmperf.pytest_plugin.slmperf_fixture import Slmperf

    return Slmperf(_context(request, "slmperf"), request.node)


def _context(request: pytest.FixtureRequest, name: str) -> SessionContext:
    """The session's context, after recording that the test uses this fixture.

    A test that gets it by ``getfixturevalue``, without an argument, becomes known as a performance test only here; without
    ``--slmperf`` it is then skipped.
    """
    if not request.config.getoption("--slmperf"):
        pytest.skip(SKIPPED)
    from pytest_slmperf.pytest_plugin.context import CONTEXT

    request.node.stash.setdefault(TEST, TestState()).used.add(name)
    return request.config.stash[CONTEXT]
