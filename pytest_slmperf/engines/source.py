"""Where a scenario gets its engines from."""

from __future__ import annotations

from contextlib import AbstractContextManager

from pytest_slmperf.engines.base import Engine, EngineAdapter
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.sharing.mps import MpsDaemons
from pytest_slmperf.model.engine_spec import EngineSpec


class EngineSource:
    """Gives the engine of a launch while a block runs: ``with source(spec, launch) as engine``.

    Launch −1 asks for a process of its own that ends with the block; any other launch for the pooled resident engine.
    """

    def __init__(self, pool: EnginePool) -> None:
        self._pool = pool

    def __call__(self, spec: EngineSpec, launch: int) -> AbstractContextManager[Engine]:
        return self._pool.engine(spec, launch)

    def adapter(self, spec: EngineSpec) -> EngineAdapter:
        """The adapter of the specification's engine."""
        return self._pool.adapter(spec)

    @property
    def mps(self) -> MpsDaemons:
        """The session's MPS daemons."""
        return self._pool.mps
