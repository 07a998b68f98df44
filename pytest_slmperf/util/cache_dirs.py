"""The folder of things that can be made anew."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs

NAME = "pytest-slmperf"


def cache_folder() -> Path:
    """The user's cache folder for this package, by the conventions of the platform; it need not exist.

    Where the user has none (no home, or a relative path in the environment), a folder among the temporary files.
    """
    path = platformdirs.user_cache_path(NAME)
    return path if path.is_absolute() else temporary_folder()


def temporary_folder() -> Path:
    """The user's own folder among the temporary files: for where the cache folder cannot be written."""
    return Path(tempfile.gettempdir()) / f"{NAME}-{os.getuid()}"
