"""Module paths in the documentation of version 0.1, which work for one more release, with a DeprecationWarning.

Users now import from ``pytest_slmperf`` itself. Standard library only, since importing the package imports this module.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any

# former path below pytest_slmperf → where its contents are now (several: the former module was split)
MOVED: dict[str, tuple[str, ...]] = {
    "baselines.base": ("baselines.store", "model.baseline"),
    "energy.polled": ("energy.meters.polled_counter",),
    "engines.spec": ("model.engine_spec",),
    "fixtures": ("pytest_plugin.fixtures", "pytest_plugin.slmperf_fixture", "measuring.handle"),
    "hookspec": ("pytest_plugin.hookspec",),
    "loadgen": ("load",),
    "loadgen.measure": ("load.latencies",),
    "marker": ("pytest_plugin.setting_table",),
    "options": ("pytest_plugin.setting_table",),
    "profiles": ("measuring.context",),
    "record": ("model.energy", "model.verdict", "model.result", "model.results_file"),
    "reports.base": ("reports.exporters",),
    "roofline": ("contrib.roofline",),
    "scenarios.coldstart": ("scenarios.offline",),
    "scenarios.replication_view": ("measuring.studies.replication",),
    "scenarios.rising_rates": ("measuring.studies.rising_rates",),
    "scenarios.sweep_view": ("measuring.studies.sweep_result",),
}
_PREFIX = "pytest_slmperf."


class _Alias(Loader):
    """Loads the new module, or a module with the contents of several, under the former name."""

    def __init__(self, targets: Sequence[str]) -> None:
        self._targets = targets

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        now = [importlib.import_module(_PREFIX + target) for target in self._targets]
        warnings.warn(
            f"{module.__name__} is now {' and '.join(new.__name__ for new in now)}; what users need is in pytest_slmperf",
            DeprecationWarning,
            stacklevel=2,
        )
        if len(now) == 1:
            sys.modules[module.__name__] = now[0]
            return
        for new in now:
            module.__dict__.update({name: value for name, value in vars(new).items() if not name.startswith("_")})


class FormerPaths(MetaPathFinder):
    """Finds the modules in ``MOVED``. It is last on ``sys.meta_path``, so that existing modules have priority."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        targets = MOVED.get(fullname.removeprefix(_PREFIX)) if fullname.startswith(_PREFIX) else None
        return None if targets is None else spec_from_loader(fullname, _Alias(targets), is_package=len(targets) == 1)


def former_names(package: str, moved: Mapping[str, str]) -> Callable[[str], Any]:
    """A ``__getattr__`` for a package that was a module. ``moved``: name → submodule that now defines it."""

    def find(name: str) -> Any:
        if name not in moved:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        now = f"{package}.{moved[name]}"
        warnings.warn(f"{package}.{name} is now {now}.{name}", DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(now), name)

    return find


def stand_in_for_function(module: str, function: Callable[..., Any]) -> None:
    """Make a module callable that has replaced a function of the same name."""

    class ModuleAsFunction(ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            warnings.warn(f"{module} is now {module}.{function.__name__}", DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

    sys.modules[module].__class__ = ModuleAsFunction


def install() -> None:
    """Add the finder to ``sys.meta_path``, once."""
    if not any(isinstance(finder, FormerPaths) for finder in sys.meta_path):
        sys.meta_path.append(FormerPaths())
