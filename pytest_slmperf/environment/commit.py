"""The commit of the code under test, as a ``record.Commit``, through pytest-benchmark where it is installed."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_slmperf.model.result import Commit

_COMMIT_ID = re.compile(r"[0-9a-f]{7,64}")


def describe(rootdir: Path) -> Commit:
    """Commit, branch and whether there are uncommitted changes; ``Commit()`` outside version control. Never raises."""
    info = _from_pytest_benchmark(rootdir)
    if info is None:
        info = _from_git(rootdir)
    commit_id = info.get("id")
    # pytest-benchmark says "unversioned" or "unknown" where there is no commit; this record says None.
    if not isinstance(commit_id, str) or not _COMMIT_ID.fullmatch(commit_id):
        return Commit()
    branch = info.get("branch")
    named = isinstance(branch, str) and not branch.startswith("(") and branch != "HEAD"
    return Commit(id=commit_id, branch=branch if named else None, dirty=bool(info.get("dirty")))


def _from_pytest_benchmark(rootdir: Path) -> dict[str, Any] | None:
    """pytest-benchmark's ``get_commit_info``; it looks at the working directory, which is ``rootdir`` for the call."""
    try:
        import pytest_benchmark.utils as pytest_benchmark
    except ImportError:
        return None
    ask: Callable[[], dict[str, Any]] = pytest_benchmark.get_commit_info
    try:
        with contextlib.chdir(rootdir):
            return ask()
    except Exception:  # another project's code on an unknown repository: the fallback answers instead
        return None


def _from_git(rootdir: Path) -> dict[str, Any]:
    def git(*words: str) -> str:
        run = subprocess.run(["git", *words], cwd=rootdir, capture_output=True, text=True, timeout=30, check=True)
        return run.stdout.strip()

    try:
        return {
            "id": git("rev-parse", "HEAD"),
            "branch": git("rev-parse", "--abbrev-ref", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return {}
