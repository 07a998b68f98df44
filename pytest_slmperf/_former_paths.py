"""Module paths of version 0.1 that its documentation named: they work for one more release, with a DeprecationWarning.

What users import now comes from ``pytest_slmperf`` itself. Standard library only: this is installed with the package.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

# former path below pytest_slmperf → where its contents are now (several: the former module was split)
MOVED: dict[str, tuple[str, ...]] = {
    "energy.polled": ("energy.meters.polled_counter",),
    "fixtures": ("pytest_plugin.fixtures",),
    "marker": ("pytest_plugin.marker",),
    "options": ("pytest_plugin.options",),
    "profiles": ("measuring.profiles",),
    "record": ("model.energy", "model.verdict", "model.result", "model.results_file"),
    "roofline": ("contrib.roofline",),
    "scenarios.coldstart": ("scenarios.cold_start",),
}
_PREFIX = "pytest_slmperf."


class _Alias(Loader):
    """Gives the new module, or one with the contents of several, under the former name."""

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
    """Finds the modules in ``MOVED``; put last on ``sys.meta_path``, it is asked for nothing that exists."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        targets = MOVED.get(fullname.removeprefix(_PREFIX)) if fullname.startswith(_PREFIX) else None
        return None if targets is None else spec_from_loader(fullname, _Alias(targets), is_package=len(targets) == 1)


def install() -> None:
    """Add the finder to ``sys.meta_path``, once."""
    if not any(isinstance(finder, FormerPaths) for finder in sys.meta_path):
        sys.meta_path.append(FormerPaths())
