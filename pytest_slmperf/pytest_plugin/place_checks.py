"""Checks of the files, folders and stores that the options name, before anything is measured. Nothing is made or written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.pytest_plugin import options


def check_places(config: pytest.Config) -> None:
    """InvalidInput names the option whose place cannot be used, and what to do."""
    _check_baselines(config)
    _check_writable(config, "state-dir", options.value(config, "state-dir"), "choose another folder")
    _check_outputs(config)


def _check_baselines(config: pytest.Config) -> None:
    """The store's address, the names of baselines, and a folder that can be written where this session will save."""
    from pytest_slmperf.baselines.lookup import check_across
    from pytest_slmperf.baselines.open import open_store
    from pytest_slmperf.baselines.store import check_name

    place, saved_as = options.value(config, "baselines"), options.value(config, "save")
    open_store(place, options.folder(config, "baselines"))
    for name in (options.value(config, "baseline"), saved_as):
        if name is not None:
            check_name(name)
    check_across(options.value(config, "across"))
    if (saved_as or config.getoption("--slmperf-approve")) and "://" not in place:
        fix = "choose another folder, or leave --slmperf-save and -approve away"
        _check_writable(config, "baselines", place, fix)


def _check_outputs(config: pytest.Config) -> None:
    """Report, results and exports: each a file of its own, in a folder that can be written."""
    outputs = [(name, path) for name in ("html", "json") if (path := options.value(config, name)) is not None]
    outputs += [("export", path) for _, path in options.value(config, "export")]
    taken: dict[Path, str] = {}
    for name, path in outputs:
        file = Path(options.folder(config, name), path).absolute()
        if file.suffix == ".py":
            raise InvalidInput(f"--slmperf-{name}: {path} is a Python file; give another name")
        if file in taken:
            raise InvalidInput(
                f"--slmperf-{name}: {path} is the file of --slmperf-{taken[file]} too; give each a file of its own"
            )
        taken[file] = name
        if file.is_dir():
            raise InvalidInput(f"--slmperf-{name}: {path} is a folder; give a file in it")
        _check_writable(config, name, str(Path(path).parent), "choose another place")


def _check_writable(config: pytest.Config, name: str, place: str, fix: str) -> None:
    """Refuse a folder that could not be made or written."""
    folder = Path(options.folder(config, name), place)
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        why = "no permission, or a read-only file system" if existing.is_dir() else "a file, where a folder is needed"
        raise InvalidInput(f"--slmperf-{name}: {folder} cannot be written ({existing}: {why}); {fix}")
