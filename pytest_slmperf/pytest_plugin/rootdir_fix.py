"""The rootdir that pytest would choose if it knew this plugin's options while it chooses.

Without an ini file pytest takes the common folder of the paths on its command line, and it looks before plugins have told
their options: the values of ``--slmperf-baselines /srv/baselines`` or ``--slmperf-python /opt/venv/bin/python`` pass for
tests.  The tests would then have other ids as soon as that folder exists, and find no baseline.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest


def expected(here: Path, arguments: list[str]) -> Path:
    """pytest's own rule for a command line without an ini file: a setup.py upwards, else the folder common to all."""
    paths = [Path(os.path.abspath(here / argument.partition("::")[0])) for argument in arguments]
    folders = [path if path.is_dir() else path.parent for path in paths if path.exists()]
    ancestor = Path(os.path.commonpath(folders)) if folders else here
    for folder in (ancestor, *ancestor.parents):
        if (folder / "setup.py").is_file():
            return folder
    common = Path(os.path.commonpath([here, ancestor]))
    return ancestor if common.parent == common else common


def correct(config: pytest.Config) -> None:
    """Set the rootdir anew where an option's value may have passed for a path. Needs an attribute of pytest's own; does
    nothing where it is absent."""
    known = config.known_args_namespace
    given = [str(argument) for argument in config.invocation_params.args]
    mistaken = any(
        before.startswith("--slmperf-") and "=" not in before and Path(config.invocation_params.dir, after).exists()
        for before, after in pairwise(given)
    )
    if not mistaken or config.inipath is not None or known.rootdir is not None or not hasattr(config, "_rootpath"):
        return
    config._rootpath = expected(config.invocation_params.dir, list(known.file_or_dir))
