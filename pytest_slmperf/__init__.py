"""Catch throughput, latency and energy regressions of small language models.

Users and other packages import from here only, and names are loaded on first use; every other module may change.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pytest_slmperf import _former_paths
from pytest_slmperf.util.version import __version__

if TYPE_CHECKING:
    from pytest_slmperf.baselines.store import Store
    from pytest_slmperf.energy.base import DeviceReading, EnergyMeter, EnergyReading, Watch
    from pytest_slmperf.energy.meters.polled_counter import Counter, PolledMeter
    from pytest_slmperf.engines.base import (
        Batch,
        Engine,
        EngineAdapter,
        EngineFacts,
        EngineLaunch,
        EngineState,
        EngineTraits,
        RequestTiming,
        RoundReading,
    )
    from pytest_slmperf.engines.launch_host import HostProgram, LaunchHost
    from pytest_slmperf.engines.process import EngineProcess
    from pytest_slmperf.errors import EngineError, EngineMissing, InvalidInput, NotMeasured, OutOfMemory, SlmperfError
    from pytest_slmperf.load.latencies import Slo
    from pytest_slmperf.measuring.context import active_profile, pick
    from pytest_slmperf.measuring.handle import Measurement
    from pytest_slmperf.model.engine_spec import EngineSpec
    from pytest_slmperf.model.result import Result, Results
    from pytest_slmperf.pytest_plugin.fixtures import EngineRef
    from pytest_slmperf.pytest_plugin.slmperf_fixture import Slmperf
    from pytest_slmperf.reports.exporters import Exporter
    from pytest_slmperf.scenarios.base import RoundOutcome, Scenario
    from pytest_slmperf.scenarios.offline import ColdStart, Offline
    from pytest_slmperf.scenarios.replication import Replication
    from pytest_slmperf.scenarios.serving import Serving
    from pytest_slmperf.scenarios.sweep import Sweep

__all__ = [
    "Batch",
    "ColdStart",
    "Counter",
    "DeviceReading",
    "EnergyMeter",
    "EnergyReading",
    "Engine",
    "EngineAdapter",
    "EngineError",
    "EngineFacts",
    "EngineLaunch",
    "EngineMissing",
    "EngineProcess",
    "EngineRef",
    "EngineSpec",
    "EngineState",
    "EngineTraits",
    "Exporter",
    "HostProgram",
    "InvalidInput",
    "LaunchHost",
    "Measurement",
    "NotMeasured",
    "Offline",
    "OutOfMemory",
    "PolledMeter",
    "Replication",
    "RequestTiming",
    "Result",
    "Results",
    "RoundOutcome",
    "RoundReading",
    "Scenario",
    "Serving",
    "Slmperf",
    "SlmperfError",
    "Slo",
    "Store",
    "Sweep",
    "Watch",
    "__version__",
    "active_profile",
    "pick",
]

_WHERE = {
    "Batch": "engines.base",
    "ColdStart": "scenarios.offline",
    "Counter": "energy.meters.polled_counter",
    "DeviceReading": "energy.base",
    "EnergyMeter": "energy.base",
    "EnergyReading": "energy.base",
    "Engine": "engines.base",
    "EngineAdapter": "engines.base",
    "EngineError": "errors",
    "EngineFacts": "engines.base",
    "EngineLaunch": "engines.base",
    "EngineMissing": "errors",
    "EngineProcess": "engines.process",
    "EngineRef": "pytest_plugin.fixtures",
    "EngineSpec": "model.engine_spec",
    "EngineState": "engines.base",
    "EngineTraits": "engines.base",
    "Exporter": "reports.exporters",
    "HostProgram": "engines.launch_host",
    "InvalidInput": "errors",
    "LaunchHost": "engines.launch_host",
    "Measurement": "measuring.handle",
    "NotMeasured": "errors",
    "Offline": "scenarios.offline",
    "OutOfMemory": "errors",
    "PolledMeter": "energy.meters.polled_counter",
    "Replication": "scenarios.replication",
    "RequestTiming": "engines.base",
    "Result": "model.result",
    "Results": "model.result",
    "RoundOutcome": "scenarios.base",
    "RoundReading": "engines.base",
    "Scenario": "scenarios.base",
    "Serving": "scenarios.serving",
    "Slmperf": "pytest_plugin.slmperf_fixture",
    "SlmperfError": "errors",
    "Slo": "load.latencies",
    "Store": "baselines.store",
    "Sweep": "scenarios.sweep",
    "Watch": "energy.base",
    "active_profile": "measuring.context",
    "pick": "measuring.context",
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
