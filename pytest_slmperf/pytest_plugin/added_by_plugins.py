"""Engines, meters, exporters and annotations of this package and of other plugins, through its hooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

import pytest

from pytest_slmperf.errors import InvalidInput, SlmperfError

if TYPE_CHECKING:
    from pytest_slmperf.energy.base import EnergyMeter
    from pytest_slmperf.engines.base import EngineAdapter
    from pytest_slmperf.model.engine_spec import EngineSpec
    from pytest_slmperf.model.result import Result
    from pytest_slmperf.reports.exporters import Exporter
    from pytest_slmperf.scenarios.sweep import Sweep

T = TypeVar("T")


def engine_adapters(config: pytest.Config) -> list[EngineAdapter]:
    """All engine adapters, this package's own first: a later one replaces one of the same name."""
    groups: list[list[EngineAdapter]] = _hooked(config, "pytest_slmperf_engines", "resolve", "launch")
    return _joined(reversed(groups))


def energy_meters(config: pytest.Config) -> list[EnergyMeter]:
    """All energy meters, in the order in which they are tried."""
    groups: list[list[EnergyMeter]] = _hooked(config, "pytest_slmperf_meters", "watch", "close")
    return _joined(groups)


def exporter(config: pytest.Config, name: str) -> Exporter:
    """The exporter ``name``; InvalidInput, with the known names, if there is none."""
    groups: list[list[Exporter]] = _hooked(config, "pytest_slmperf_exporters", "export")
    known = {exporter.name: exporter for exporter in _joined(reversed(groups))}
    if name not in known:
        raise InvalidInput(f"--slmperf-export: unknown format {name!r}; known are {', '.join(sorted(known))}")
    return known[name]


def annotate(config: pytest.Config, result: Result, scenario: Sweep, spec: EngineSpec) -> None:
    """Let plugins add charts and notes to a finished sweep; the failure of a plugin does not affect the measurement."""
    try:
        config.hook.pytest_slmperf_annotate(config=config, result=result, scenario=scenario, spec=spec)
    except pytest.exit.Exception:  # is an Exception, and how a second Ctrl-C and SIGTERM end the session
        raise
    except Exception as error:
        result.notes.append(f"a plugin's pytest_slmperf_annotate failed: {type(error).__name__}: {error}")


def _joined(groups: Iterable[Iterable[T]]) -> list[T]:
    return [item for group in groups for item in group]


def _hooked(config: pytest.Config, name: str, *methods: str) -> list[list[T]]:
    """What each plugin gives: objects with a ``name`` and these methods. InvalidInput names the hook when one of them fails
    or gives something else."""
    try:
        groups: list[list[T]] = getattr(config.hook, name)(config=config)
    except (SlmperfError, pytest.exit.Exception):
        raise
    except Exception as error:
        raise InvalidInput(
            f"a plugin's {name} failed: {type(error).__name__}: {error}; mend it, or leave it out with -p no:NAME"
        ) from error
    for group in groups:
        if not isinstance(group, list | tuple):
            raise InvalidInput(f"a plugin's {name} gave {type(group).__name__}, and must give a list")
        for item in group:
            if not isinstance(getattr(item, "name", None), str) or not all(hasattr(item, each) for each in methods):
                raise InvalidInput(
                    f"a plugin's {name} gave {type(item).__name__}, which has not the name and the methods "
                    f"({', '.join(methods)}) of what the hook must give"
                )
    return groups
