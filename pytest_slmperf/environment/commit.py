"""The commit of the code under test: from git, or else from the variables of the CI system."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_slmperf.model.result import Commit

_COMMIT_ID = re.compile(r"[0-9a-f]{7,64}")

# Variables of CI systems: commit id, then the branch (the first that is set).
_CI = (
    ("GITHUB_SHA", ("GITHUB_HEAD_REF", "GITHUB_REF_NAME")),
    ("CI_COMMIT_SHA", ("CI_COMMIT_REF_NAME",)),  # GitLab
    ("BUILDKITE_COMMIT", ("BUILDKITE_BRANCH",)),
    ("CIRCLE_SHA1", ("CIRCLE_BRANCH",)),
    ("BUILD_SOURCEVERSION", ("BUILD_SOURCEBRANCHNAME",)),  # Azure Pipelines
    ("BITBUCKET_COMMIT", ("BITBUCKET_BRANCH",)),
    ("DRONE_COMMIT_SHA", ("DRONE_BRANCH",)),
    ("TRAVIS_COMMIT", ("TRAVIS_BRANCH",)),
    ("GIT_COMMIT", ("GIT_BRANCH",)),  # Jenkins
)


def describe(rootdir: Path, environ: Mapping[str, str] = os.environ) -> Commit:
    """Commit, branch and whether there are uncommitted changes; ``Commit()`` if nothing is known. Never raises."""
    return look_up(rootdir, environ)[0]


def look_up(rootdir: Path, environ: Mapping[str, str] = os.environ) -> tuple[Commit, str | None]:
    """The commit, and a note for the reader if it does not come from git.

    A CI system's variables replace git if it refuses the checkout (container jobs: another user owns it) or if there is no
    ``.git``; it is then unknown whether there are uncommitted changes (``dirty`` None).  They also give the branch of a
    detached checkout of the same commit.
    """
    info = _from_pytest_benchmark(rootdir)
    commit_id = None if info is None else _id_in(info)
    if info is None or commit_id is None:
        info = _from_git(rootdir)
        commit_id = _id_in(info)
    variable, ci_commit, ci_branch = _from_ci(environ)
    if commit_id is None:
        reason = str(info.get("reason") or "this is no git checkout")
        if ci_commit is not None:
            return (
                Commit(id=ci_commit, branch=ci_branch, dirty=None),
                f"the commit is {variable}'s, and uncommitted changes are unknown: {reason}",
            )
        refused = info.get("reason") is not None
        if refused or environ.get("CI"):
            return Commit(dirty=None), f"the commit is unknown: {reason}"
        return Commit(), None
    branch = info.get("branch")
    named = isinstance(branch, str) and not branch.startswith("(") and branch != "HEAD"
    if not named and ci_commit == commit_id:
        branch, named = ci_branch, ci_branch is not None
    return Commit(id=commit_id, branch=branch if named else None, dirty=bool(info.get("dirty"))), None


def _id_in(info: Mapping[str, Any]) -> str | None:
    """The commit id; None if there is none, for which pytest-benchmark has "unversioned" or "unknown"."""
    commit_id = info.get("id")
    return commit_id if isinstance(commit_id, str) and _COMMIT_ID.fullmatch(commit_id) else None


def _from_ci(environ: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """(name of the variable, commit id, branch) of the CI system that runs this; None without a CI system."""
    for variable, branches in _CI:
        commit_id = environ.get(variable, "").lower()
        if _COMMIT_ID.fullmatch(commit_id):
            return variable, commit_id, next((environ[name] for name in branches if environ.get(name)), None)
    return None, None, None


def _from_pytest_benchmark(rootdir: Path) -> dict[str, Any] | None:
    """pytest-benchmark's ``get_commit_info`` of the working directory, which is ``rootdir`` during the call."""
    try:
        import pytest_benchmark.utils as pytest_benchmark
    except ImportError:
        return None
    ask: Callable[[], dict[str, Any]] = pytest_benchmark.get_commit_info
    try:
        with contextlib.chdir(rootdir):
            return ask()
    except Exception:  # another project's code may fail on an unknown repository; the fallback is used then
        return None


def _from_git(rootdir: Path) -> dict[str, Any]:
    """``id``, ``branch`` and ``dirty``; or ``reason``, if there is a checkout that git does not describe."""

    def git(*words: str) -> str:
        run = subprocess.run(["git", *words], cwd=rootdir, capture_output=True, text=True, timeout=30, check=True)
        return run.stdout.strip()

    try:
        return {
            "id": git("rev-parse", "HEAD"),
            "branch": git("rev-parse", "--abbrev-ref", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except FileNotFoundError:
        return {"reason": "git is not installed"} if _has_checkout(rootdir) else {}
    except (OSError, subprocess.SubprocessError) as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
        if "dubious ownership" in said:
            return {
                "reason": "another user owns the checkout, and git refuses it "
                f"(git config --global --add safe.directory {rootdir})"
            }
        return {}


def _has_checkout(folder: Path) -> bool:
    return any((place / ".git").exists() for place in (folder, *folder.parents))
