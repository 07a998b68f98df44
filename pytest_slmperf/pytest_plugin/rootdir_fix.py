"""The rootdir that pytest would choose if it knew this plugin's options while it chooses.

Without an ini file pytest takes the folder common to the paths on its command line, before plugins have registered their
options: the values of ``--slmperf-baselines /srv/baselines`` or ``--slmperf-python /opt/venv/bin/python`` are taken for
tests.  The tests would then have other ids once that folder exists, and find no baseline.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest


def expected(here: Path, arguments: list[str]) -> Path:
    """The rootdir by pytest's rule without an ini file: the nearest folder upwards with a setup.py, else the shared one."""
    paths = [Path(os.path.abspath(here / argument.partition("::")[0])) for argument in arguments]
    folders = [path if path.is_dir() else path.parent for path in paths if path.exists()]
    ancestor = Path(os.path.commonpath(folders)) if folders else here
    for folder in (ancestor, *ancestor.parents):
        if (folder / "setup.py").is_file():
            return folder
    common = Path(os.path.commonpath([here, ancestor]))
    return ancestor if common.parent == common else common


def correct(config: pytest.Config) -> None:
    """Set the rootdir again where an option's value may have been taken for a path. Needs a private attribute of pytest, and
    does nothing where it is absent."""
    known = config.known_args_namespace
    given = [str(argument) for argument in config.invocation_params.args]
    mistaken = any(
        before.startswith("--slmperf-") and "=" not in before and Path(config.invocation_params.dir, after).exists()
        for before, after in pairwise(given)
    )
    if not mistaken or config.inipath is not None or known.rootdir is not None or not hasattr(config, "_rootpath"):
        return
    config._rootpath = expected(config.invocation_params.dir, list(known.file_or_dir))
