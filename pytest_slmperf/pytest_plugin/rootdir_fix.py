"""The rootdir that pytest would choose if it knew this plugin's options while it chooses.

Without an ini file pytest takes the folder common to the paths on its command line, before plugins have registered their
options: the values of ``--slmperf-baselines /srv/baselines`` or ``--slmperf-python /opt/venv/bin/python`` are taken for
tests.  The tests would then have other ids once that folder exists, and find no baseline; and where that folder has an ini
file, the session would be that other project's, state and baselines included.
"""

from __future__ import annotations

import inspect
import os
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

EARLY = ("addopts", "pythonpath", "required_plugins", "minversion", "filterwarnings")  # pytest has used them by now


def correct(config: pytest.Config) -> None:
    """Set rootdir and ini file again where an option's value may have been taken for a path.

    Needs private attributes of pytest, and does nothing where they are absent. UsageError where too late: pytest has then
    already done what an ini file says, or has not done what the right one says.
    """
    known = config.known_args_namespace
    given = [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *map(str, config.invocation_params.args)]
    taken = [
        (before, after)
        for before, after in pairwise(given)
        if before.startswith("--slmperf-") and "=" not in before and _is_path(config.invocation_params.dir, after)
    ]
    own = known.rootdir is not None or known.inifilename is not None
    if not taken or own or not hasattr(config, "_rootpath") or not hasattr(config, "_inicfg"):
        return
    rootdir, inipath, inicfg = _without_options(config, [str(path) for path in known.file_or_dir])
    if inipath != config.inipath:
        if wrong := [name for name in EARLY if name in config._inicfg or name in inicfg]:
            option, value = taken[0]
            raise pytest.UsageError(
                f"pytest has taken {config.inipath or 'no ini file'} and not {inipath or 'none'} for this session, because "
                f"of the value of {option}; its {wrong[0]} would be wrong. Write {option}={value}, or give --rootdir"
            )
        config._inipath, config._inicfg = inipath, inicfg
        config._inicache.clear()
    cut = config.rootpath if config.inipath is None else config.inipath.parent
    if known.confcutdir == str(cut):
        known.confcutdir = str(rootdir if inipath is None else inipath.parent)
    config._rootpath = rootdir


def _is_path(here: Path, text: str) -> bool:
    try:
        return (here / text).exists()
    except (OSError, ValueError):  # too long, or with a NUL byte
        return False


def _without_options(config: pytest.Config, paths: list[str]) -> tuple[Path, Path | None, Any]:
    """Rootdir, ini file and its settings as pytest finds them for these paths alone."""
    from _pytest.config.findpaths import determine_setup

    known = config.known_args_namespace
    asked: dict[str, Any] = {
        "inifile": None, "args": paths, "rootdir_cmd_arg": None, "invocation_dir": config.invocation_params.dir,
        "override_ini": known.override_ini,
    }  # fmt: skip
    wanted = inspect.signature(determine_setup).parameters
    rootdir, inipath, inicfg = determine_setup(**{name: asked[name] for name in wanted if name in asked})[:3]
    return rootdir, inipath, inicfg
