"""The settings of one test, resolved: marker > command line > ini > profile."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from pytest_slmperf.devices.detection import default_device
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.measuring.settings import LIMIT, TOLERANCE, Settings
from pytest_slmperf.metrics.registry import REGISTRY, metric
from pytest_slmperf.model.engine_spec import EngineSpec, Scalar
from pytest_slmperf.pytest_plugin import options
from pytest_slmperf.util.formatting import portion


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile means where nothing else is said. Sizes hold the shipped suite without an engine restart."""

    launches: int
    max_launches: int
    rounds: int
    most_rounds: int  # a launch with noisy rounds gets more of them, up to this
    max_time: float | None  # on a CPU
    gpu_max_time: float | None  # an engine takes ten times as long to start there (kernels compiled, graphs captured)

    def time_of(self, gpu: bool) -> float | None:
        """Time budget of a session, in seconds; None: no bound."""
        return self.gpu_max_time if gpu else self.max_time


PROFILES = {"quick": Profile(2, 6, 5, 5, 215.0, 900.0), "full": Profile(4, 16, 10, 40, None, None)}
# CPU engines start with what two cores can serve; a GPU holds a small model with room for hundreds of sequences.
SIZES = {"cpu": {"max_model_len": 512, "max_num_seqs": 64}, "gpu": {"max_model_len": 1024, "max_num_seqs": 512}}


def scalar(text: str) -> Scalar:
    """A command-line value as JSON would read it ("true", "4", "0.5", "null"), else as text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if value is None or isinstance(value, (str, int, float, bool)) else text


def _margins(config: pytest.Config, name: str, mark: Any) -> dict[str | None, float]:
    result: dict[str | None, float] = dict(options.value(config, name))
    if isinstance(mark, Mapping):
        result.update(mark)
    elif mark is not None:
        result = {
            None: float(mark)
        }  # the test's own word for all metrics overrides the session's words for single ones
    for metric_name in result:
        if metric_name is not None and metric_name not in REGISTRY:
            metric(metric_name)
    return result


def base_spec(config: pytest.Config, mark: Mapping[str, Any] | None = None) -> EngineSpec:
    """The engine specification that options and marker ask for, unresolved."""
    mark = mark or {}

    def chosen(name: str) -> Any:
        return mark.get(name, options.value(config, name))

    python, model = options.value(config, "python"), chosen("model")
    if python and "/" in python:  # the engine's process may be started elsewhere
        python = os.path.join(options.folder(config, "python"), os.path.expanduser(python))
    beside_ini = options.folder(config, "model")
    if "model" not in mark and "/" in model and beside_ini != Path.cwd() and (beside_ini / model).is_dir():
        model = str(beside_ini / model)
    given: dict[str, Scalar] = {key: scalar(text) for key, text in options.value(config, "set")}
    endpoint = options.value(config, "endpoint")
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
    sizes = SIZES["gpu" if on_gpu(config, spec) else "cpu"]
    spec = replace(spec, **{name: mark.get(name, size) for name, size in sizes.items()})
    return spec.with_settings(**given).with_settings(**dict(mark.get("settings", {})))


def device_of(config: pytest.Config, spec: EngineSpec) -> str:
    """Where this engine will serve: as asked for, else as its adapter will choose; starts no engine.

    Adapters may offer ``default_device``; an engine whose adapter does not, or that no plugin adds, is taken to serve on
    what this machine has.
    """
    if spec.device:
        return spec.device
    try:
        groups = config.hook.pytest_slmperf_engines(config=config)
    except Exception:  # another package's hook is broken: said with its name where engines are looked up to be started
        return default_device()
    named = [adapter for group in reversed(groups) for adapter in group if adapter.name == spec.engine]
    choose = getattr(named[-1], "default_device", None) if named else None
    return str(choose(spec.python)) if callable(choose) else default_device()


def on_gpu(config: pytest.Config, spec: EngineSpec) -> bool:
    return not device_of(config, spec).startswith("cpu")


def quarantined_as(nodeid: str, patterns: Sequence[str]) -> str | None:
    """The first pattern that names the test. Brackets stand for themselves: they are part of a parametrized test's id."""
    return next((one for one in patterns if fnmatchcase(nodeid, one.replace("[", "[[]"))), None)


def resolve(config: pytest.Config, nodeid: str, mark: Mapping[str, Any], spec: EngineSpec | None = None) -> Settings:
    """Settings of one test; ``spec`` is the engine the test parametrized itself, if it did."""
    profile = PROFILES[options.value(config, "profile")]

    def chosen(name: str, fallback: Any) -> Any:
        given = mark.get(name, options.value(config, name))
        return fallback if given is None else given

    most = chosen("max_launches", None)  # one that was asked for bounds the usual number to start with, too
    launches = chosen("launches", min(profile.launches, most or profile.launches))
    rounds = chosen("rounds", None)
    gate = mark.get("gate", True)
    listed = quarantined_as(nodeid, options.value(config, "quarantine"))
    return Settings(
        spec=spec or base_spec(config, mark),
        launches=launches,
        max_launches=max(launches, most or profile.max_launches),
        rounds=rounds or profile.rounds,
        most_rounds=rounds or profile.most_rounds,  # a number that was asked for is the number measured
        gate=gate if isinstance(gate, bool) else frozenset(gate),
        tolerance=_margins(config, "tolerance", mark.get("tolerance")),
        limit=_margins(config, "limit", mark.get("limit")),
        energy_bound=chosen("energy_bound", 0.02),
        max_time=mark.get("max_time"),
        start_timeout=options.value(config, "start-timeout"),
        round_timeout=options.value(config, "round-timeout"),
        evidence_limits=dict(options.value(config, "evidence-limit")),
        quarantined=None if listed is None else f"listed in slmperf_quarantine as {listed!r}",
    )


def against_spec(base: EngineSpec, against: str) -> EngineSpec:
    """The baseline side of a duet: ``python=PATH``, ``engine.KEY=VALUE,…``, ``endpoint=URL``, joined by commas.

    Raises InvalidInput naming the part that is not understood.
    """
    spec = base
    for part in against.split(","):
        key, equals, value = part.strip().partition("=")
        if not equals or not value:
            raise InvalidInput(f"--slmperf-against: {part!r} must be python=PATH, engine.KEY=VALUE or endpoint=URL")
        if key == "python":
            spec = replace(spec, python=_executable(value))
        elif key == "endpoint":
            spec = spec.with_settings(endpoint=value)
        elif key.startswith("engine.") and len(key) > len("engine."):
            name = key.removeprefix("engine.")
            text = name in ("engine", "model", "weights", "dtype", "device")
            spec = spec.with_settings(**{name: value if text else scalar(value)})
        else:
            raise InvalidInput(
                f"--slmperf-against: unknown side {key!r}; use python=PATH, engine.KEY=VALUE or endpoint=URL"
            )
    if spec == base:
        raise InvalidInput(f"--slmperf-against {against!r}: both sides are the same engine; name what differs")
    return spec


def _executable(path: str) -> str:
    """The interpreter as an absolute path, links kept: they are what makes a virtual environment."""
    found = shutil.which(path)
    if found is None:
        raise InvalidInput(
            f"--slmperf-against python={path}: there is no such executable file; give the path of a Python interpreter, "
            "for instance old/bin/python"
        )
    return os.path.abspath(found)


def _check_places(config: pytest.Config) -> None:
    """Where baselines are kept and what they are called; looks at the words only, and makes nothing."""
    from pytest_slmperf.baselines.lookup import check_across
    from pytest_slmperf.baselines.open import open_store
    from pytest_slmperf.baselines.store import check_name

    open_store(options.value(config, "baselines"), options.folder(config, "baselines"))
    for name in ("baseline", "save"):
        if options.value(config, name) is not None:
            check_name(options.value(config, name))
    check_across(options.value(config, "across"))
    _check_writable(config, "state-dir", options.value(config, "state-dir"), "choose another folder")
    given = [(name, options.value(config, name)) for name in ("html", "json")]
    exports = [path for _, path in options.value(config, "export")]
    given += [("export", path) for path in exports]
    taken: dict[Path, str] = {}
    for name, path in given:
        if path is None:
            continue
        file = Path(options.folder(config, name), path).absolute()
        if file.suffix == ".py":
            raise InvalidInput(f"--slmperf-{name}: {path} is a Python file; give another name")
        if (other := taken.setdefault(file, name)) != name or (name == "export" and exports.count(path) > 1):
            raise InvalidInput(
                f"--slmperf-{name}: {path} is the file of --slmperf-{other} too; give each a file of its own"
            )
        if Path(options.folder(config, name), path).is_dir():
            raise InvalidInput(f"--slmperf-{name}: {path} is a folder; give a file in it")
        _check_writable(config, name, str(Path(path).parent), "choose another place")
    if (options.value(config, "save") or config.getoption("--slmperf-approve")) and "://" not in (
        kept := options.value(config, "baselines")
    ):
        _check_writable(config, "baselines", kept, "choose another folder, or leave --slmperf-save and -approve away")


def _check_writable(config: pytest.Config, name: str, place: str, mend: str) -> None:
    """Refuse a folder that could not be made or written, before anything is measured; makes nothing."""
    folder = Path(options.folder(config, name), place)
    there = next(above for above in (folder, *folder.parents) if above.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "no permission, or a read-only file system" if there.is_dir() else "a file, where a folder is needed"
        raise InvalidInput(f"--slmperf-{name}: {folder} cannot be written ({there}: {why}); {mend}")


def check_session(config: pytest.Config) -> None:
    """Refuse contradictions among the options before anything is measured; UsageError names the option."""
    try:
        for name in options.value(config, "tolerance"), options.value(config, "limit"):
            for metric_name, _ in name:
                if metric_name is not None:
                    metric(metric_name)
        tolerance, limit = _margins(config, "tolerance", None), _margins(config, "limit", None)
        for metric_name in {*tolerance, *limit, None}:
            low = tolerance.get(metric_name, tolerance.get(None, TOLERANCE))
            high = limit.get(metric_name, limit.get(None, LIMIT))
            if low >= high:
                raise InvalidInput(
                    f"--slmperf-tolerance {portion(low)} must be below --slmperf-limit {portion(high)}"
                    + (f" for {metric_name}" if metric_name else "")
                )
        against = options.value(config, "against")
        if against:
            against_spec(base_spec(config), against)
        base_spec(config)
        _check_places(config)
    except InvalidInput as error:
        raise pytest.UsageError(str(error)) from None
