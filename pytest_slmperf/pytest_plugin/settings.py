"""The settings of one test, resolved from the table of settings: marker > command line > ini > default."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from pytest_slmperf.devices.gpus import default_device
from pytest_slmperf.errors import InvalidInput, SlmperfError
from pytest_slmperf.measuring.context import Settings
from pytest_slmperf.metrics.registry import metric
from pytest_slmperf.model.engine_spec import EngineSpec, Scalar
from pytest_slmperf.pytest_plugin import setting_table
from pytest_slmperf.pytest_plugin.setting_table import MARKER_KEYS, OPTIONS, ByProfile, resolved
from pytest_slmperf.util.formatting import portion

_MOST_ROUNDS = ByProfile(quick=5, full=40)  # of a launch with noisy rounds, unless the user requests a number of rounds

# Both sides' launches count alike: what a baseline saves on launches, each later session pays for.
_BASELINE_LAUNCHES = 4


def asked(config: pytest.Config, mark: Mapping[str, Any], key: str) -> Any:
    """The value from the marker, or else the command line, or else the ini file; None if none gives it."""
    name = key.replace("_", "-")
    return mark[key] if key in mark else setting_table.given(config, name) if name in OPTIONS else None


def default(config: pytest.Config, key: str, gpu: bool) -> Any:
    """The default of a marker key in this session's profile. ``gpu``: whether the test's engine serves on a GPU."""
    return resolved(MARKER_KEYS[key].default, setting_table.value(config, "profile"), gpu)


def time_budget(config: pytest.Config, gpu: bool) -> float | None:
    """Seconds that the whole session may measure; None: unlimited."""
    given = setting_table.given(config, "max-time")
    chosen: float | None = resolved(OPTIONS["max-time"].default, setting_table.value(config, "profile"), gpu)
    return chosen if given is None else float(given)


def scalar(text: str) -> Scalar:
    """A command-line value as JSON would read it ("true", "4", "0.5", "null"), else as text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if value is None or isinstance(value, (str, int, float, bool)) else text


def margins(config: pytest.Config, key: str, mark: Any = None) -> dict[str | None, float]:
    """Tolerance or limit by metric; None: of every other metric. InvalidInput for a metric that does not exist.

    A single number in a marker applies to all metrics and replaces the session's margins of single metrics.
    """
    result: dict[str | None, float] = {None: OPTIONS[key].default, **dict(setting_table.value(config, key))}
    if isinstance(mark, Mapping):
        result |= mark
    elif mark is not None:
        result = {None: float(mark)}
    for name in result:
        if name is not None:
            metric(name)
    return result


def base_spec(config: pytest.Config, mark: Mapping[str, Any] | None = None) -> EngineSpec:
    """The engine specification by options and marker, not resolved."""
    mark = mark or {}

    def chosen(key: str) -> Any:
        return mark[key] if key in mark else setting_table.value(config, key)

    python, model = setting_table.value(config, "python"), chosen("model")
    if python and "/" in python:  # the engine's process may be started elsewhere
        python = os.path.join(setting_table.folder(config, "python"), os.path.expanduser(python))
    beside_ini = setting_table.folder(config, "model")
    if "model" not in mark and "/" in model and beside_ini != Path.cwd() and (beside_ini / model).is_dir():
        model = str(beside_ini / model)
    given: dict[str, Scalar] = {key: scalar(text) for key, text in setting_table.value(config, "set")}
    endpoint = setting_table.value(config, "endpoint")
    if endpoint:
        given["endpoint"] = endpoint
    spec = EngineSpec(
        engine=chosen("engine"),
        model=model,
        weights=chosen("weights"),
        dtype=chosen("dtype"),
        device=chosen("device"),
        python=python,
        kv_cache_tokens=mark.get("kv_cache_tokens"),
    )
    gpu = on_gpu(config, spec)
    sizes = {key: mark.get(key, default(config, key, gpu)) for key in ("max_model_len", "max_num_seqs")}
    spec = replace(spec, **sizes)
    return spec.with_settings(**given).with_settings(**dict(mark.get("settings", {})))


def device_of(config: pytest.Config, spec: EngineSpec) -> str:
    """The device of this engine: the requested one, or else its adapter's default; starts no engine.

    Without a default, or for an unknown engine, it is this machine's default device.
    """
    if spec.device:
        return spec.device
    from pytest_slmperf.engines.registry import Registry
    from pytest_slmperf.pytest_plugin.added_by_plugins import engine_adapters

    try:
        registry = Registry(engine_adapters(config))
    except SlmperfError:  # another package's hook is broken; the look-up of engines at their start reports it by name
        return default_device()
    if spec.engine not in registry.names():
        return default_device()
    return registry.get(spec.engine).default_device(spec.python) or default_device()


def on_gpu(config: pytest.Config, spec: EngineSpec) -> bool:
    return not device_of(config, spec).startswith("cpu")


def quarantined_as(nodeid: str, patterns: Sequence[str]) -> str | None:
    """The first pattern that matches the test. Brackets match literally, as part of a parametrized test's id."""
    return next((pattern for pattern in patterns if fnmatchcase(nodeid, pattern.replace("[", "[[]"))), None)


def resolve(config: pytest.Config, nodeid: str, mark: Mapping[str, Any], spec: EngineSpec | None = None) -> Settings:
    """Settings of one test. ``spec``: the engine of a test that parametrizes it."""
    spec = spec or base_spec(config, mark)
    usual = {key: default(config, key, on_gpu(config, spec)) for key in ("launches", "max_launches", "rounds", "gate")}
    # A requested number of rounds is exact; a largest number of launches limits the first launches too.
    rounds, most_launches = asked(config, mark, "rounds"), asked(config, mark, "max_launches")
    asked_launches = asked(config, mark, "launches")
    launches = asked_launches or min(usual["launches"], most_launches or usual["launches"])
    largest = max(launches, most_launches or usual["max_launches"])
    energy_bound = asked(config, mark, "energy_bound")
    gate = mark.get("gate", usual["gate"])
    pattern = quarantined_as(nodeid, setting_table.value(config, "quarantine"))
    return Settings(
        spec=spec,
        launches=launches,
        max_launches=largest,
        rounds=rounds or usual["rounds"],
        most_rounds=rounds or resolved(_MOST_ROUNDS, setting_table.value(config, "profile"), False),
        gate=gate if isinstance(gate, bool) else frozenset(gate),
        tolerance=margins(config, "tolerance", mark.get("tolerance")),
        limit=margins(config, "limit", mark.get("limit")),
        energy_bound=OPTIONS["energy-bound"].default if energy_bound is None else energy_bound,
        max_time=mark.get("max_time"),
        start_timeout=setting_table.value(config, "start-timeout"),
        round_timeout=setting_table.value(config, "round-timeout"),
        evidence_limits=dict(setting_table.value(config, "evidence-limit")),
        baseline_launches=launches if asked_launches else min(largest, max(launches, _BASELINE_LAUNCHES)),
        quarantined=None if pattern is None else f"listed in slmperf_quarantine as {pattern!r}",
    )


def spec_of(config: pytest.Config, item: pytest.Item) -> EngineSpec:
    """The engine of a test; InvalidInput if its marks or parameters contradict each other."""
    mark = setting_table.merged(item)
    changes = getattr(getattr(item, "callspec", None), "params", {}).get("slm_engine")
    spec = base_spec(config, mark)
    if isinstance(changes, Mapping):
        spec = spec.with_settings(**changes)
    chosen = resolve(config, item.nodeid, mark, spec)
    chosen.gates(("output_throughput", *(name for name in chosen.limit if name)))
    return spec


SIDES = "python=PATH, engine.KEY=VALUE, endpoint=URL or merge-base[=REF]"


def is_merge_base(against: str | None) -> bool:
    """Whether the other side is what another commit defines: ``merge-base`` or ``merge-base=REF``."""
    return against is not None and against.partition("=")[0] == "merge-base"


def against_spec(base: EngineSpec, against: str) -> EngineSpec:
    """The baseline side of a duet: ``python=PATH``, ``engine.KEY=VALUE,…``, ``endpoint=URL``, joined by commas.

    InvalidInput with the part that is not understood.
    """
    spec = base
    for part in against.split(","):
        key, equals, value = part.strip().partition("=")
        if not equals or not value:
            raise InvalidInput(f"--slmperf-against: {part!r} must be {SIDES}")
        if key == "python":
            spec = replace(spec, python=_executable(value))
        elif key == "endpoint":
            spec = spec.with_settings(endpoint=value)
        elif key.startswith("engine.") and len(key) > len("engine."):
            name = key.removeprefix("engine.")
            text = name in ("engine", "model", "weights", "dtype", "device")
            spec = spec.with_settings(**{name: value if text else scalar(value)})
        else:
            raise InvalidInput(f"--slmperf-against: unknown side {key!r}; use {SIDES}")
    if spec == base:
        raise InvalidInput(f"--slmperf-against {against!r}: both sides are the same engine; name what differs")
    return spec


def _executable(path: str) -> str:
    """The interpreter as an absolute path with its links, which identify a virtual environment."""
    executable = shutil.which(path)
    if executable is None:
        raise InvalidInput(
            f"--slmperf-against python={path}: there is no such executable file; give the path of a Python interpreter, "
            "for instance old/bin/python"
        )
    return os.path.abspath(executable)


def check_session(config: pytest.Config) -> None:
    """InvalidInput, with the option, for options that contradict each other, before anything is measured."""
    tolerance, limit = margins(config, "tolerance"), margins(config, "limit")
    for name in {*tolerance, *limit}:
        low, high = tolerance.get(name, tolerance[None]), limit.get(name, limit[None])
        if low >= high:
            raise InvalidInput(
                f"--slmperf-tolerance {portion(low)} must be below --slmperf-limit {portion(high)}"
                + (f" for {name}" if name else "")
            )
    base, against = base_spec(config), setting_table.value(config, "against")
    if against and not is_merge_base(against):
        against_spec(base, against)
