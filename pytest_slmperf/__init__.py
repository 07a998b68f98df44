"""Catch throughput, latency and energy regressions of small language models.

What users and other packages import comes from here, loaded on first use; every other module may change.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pytest_slmperf import _former_paths
from pytest_slmperf.util.version import __version__

if TYPE_CHECKING:
    from pytest_slmperf.baselines.store import Store
    from pytest_slmperf.energy.base import EnergyMeter
    from pytest_slmperf.energy.meters.polled_counter import Counter, PolledMeter
    from pytest_slmperf.engines.base import Engine, EngineAdapter
    from pytest_slmperf.engines.process import EngineProcess
    from pytest_slmperf.load.latencies import Slo
    from pytest_slmperf.measuring.handle import Measurement
    from pytest_slmperf.measuring.profiles import pick
    from pytest_slmperf.model.engine_spec import EngineSpec
    from pytest_slmperf.pytest_plugin.fixtures import EngineRef
    from pytest_slmperf.pytest_plugin.slmperf_fixture import Slmperf
    from pytest_slmperf.reports.base import Exporter
    from pytest_slmperf.scenarios.offline import Offline
    from pytest_slmperf.scenarios.serving import Serving
    from pytest_slmperf.scenarios.sweep import Sweep

__all__ = [
    "Counter",
    "EnergyMeter",
    "Engine",
    "EngineAdapter",
    "EngineProcess",
    "EngineRef",
    "EngineSpec",
    "Exporter",
    "Measurement",
    "Offline",
    "PolledMeter",
    "Serving",
    "Slmperf",
    "Slo",
    "Store",
    "Sweep",
    "__version__",
    "pick",
]

_WHERE = {
    "Counter": "energy.meters.polled_counter",
    "EnergyMeter": "energy.base",
    "Engine": "engines.base",
    "EngineAdapter": "engines.base",
    "EngineProcess": "engines.process",
    "EngineRef": "pytest_plugin.fixtures",
    "EngineSpec": "model.engine_spec",
    "Exporter": "reports.base",
    "Measurement": "measuring.handle",
    "Offline": "scenarios.offline",
    "PolledMeter": "energy.meters.polled_counter",
    "Serving": "scenarios.serving",
    "Slmperf": "pytest_plugin.slmperf_fixture",
    "Slo": "load.latencies",
    "Store": "baselines.store",
    "Sweep": "scenarios.sweep",
    "pick": "measuring.profiles",
}

_former_paths.install()


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
