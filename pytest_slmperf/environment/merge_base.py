"""The merge base of the branch under test: which commit it is, and its files in a git worktree of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.util import files

OPTION = "--slmperf-against merge-base"
FIX_SHALLOW = (
    "this checkout has no history (a shallow clone); in GitHub Actions give actions/checkout fetch-depth: 0, in GitLab set "
    "GIT_DEPTH: 0, elsewhere run git fetch --unshallow origin"
)
LONGEST_S = 600.0  # of one call of git: a checkout of large files over a network file system
LEFT_OVER_S = 86_400.0  # age of a worktree whose session was killed

# Variables of CI systems with the branch that a pull request goes into, and, where there is one, the merge base itself.
_TARGETS = (
    ("GITHUB_BASE_REF", None),
    ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "CI_MERGE_REQUEST_DIFF_BASE_SHA"),
    ("BITBUCKET_PR_DESTINATION_BRANCH", None),
    ("CHANGE_TARGET", None),  # Jenkins
)
_USUAL = ("origin/HEAD", "origin/main", "origin/master")


@dataclass(frozen=True, slots=True)
class MergeBase:
    """top: the folder of the checkout; commit: the full id; ref: the branch that it was found with."""

    top: Path
    commit: str
    ref: str

    @property
    def short(self) -> str:
        return self.commit[:10]

    @property
    def label(self) -> str:
        """As reports name it."""
        named = "" if self.commit.startswith(self.ref) else f" of {self.ref}"  # a merge queue names a commit
        return f"merge base {self.short}{named}"

    def unchanged(self, *places: str) -> bool:
        """Whether the working tree has these places (all without any) exactly as the commit, untracked files included."""
        same = git(self.top, "diff", "--quiet", "--no-ext-diff", self.commit, "--", *places).returncode == 0
        return same and not _output(self.top, "ls-files", "--others", "--exclude-standard", "--", *places)

    def holds(self, place: str) -> bool:
        """Whether the commit has a file or folder at this place, relative to the top."""
        return git(self.top, "cat-file", "-e", f"{self.commit}:{place}").returncode == 0


def find(folder: Path, ref: str | None = None, environ: Mapping[str, str] = os.environ) -> MergeBase:
    """The merge base of HEAD and the branch that it goes into.

    ref: that branch; None: the one that the CI system names, or else the default branch of ``origin``.
    InvalidInput, with the fix, if there is none.
    """
    top = Path(_top(folder))
    names = [ref, f"origin/{ref}"] if ref else _targets(environ)
    branch = next((name for name in names if _commit(top, name) is not None), None)
    shallow = _output(top, "rev-parse", "--is-shallow-repository") == "true"
    if branch is None:
        missing = (
            "no branch is known here that this one goes into" if names == [*_USUAL] else f"there is no {names[0]} here"
        )
        fix = FIX_SHALLOW if shallow else "fetch it (git fetch origin), or name another: merge-base=BRANCH"
        raise InvalidInput(f"{OPTION}: {missing}: {fix}")
    commit = _output(top, "merge-base", "HEAD", branch)
    if not commit:
        why = FIX_SHALLOW if shallow else "they have no commit in common; name another branch: merge-base=BRANCH"
        raise InvalidInput(f"{OPTION}: there is no merge base of HEAD and {branch}: {why}")
    named = _output(top, "rev-parse", "--abbrev-ref", branch)  # origin/HEAD is another branch's name
    return MergeBase(top, commit, named or branch)


def _targets(environ: Mapping[str, str]) -> list[str]:
    for variable, base in _TARGETS:
        if branch := environ.get(variable):
            commits = [environ[base]] if base and environ.get(base) else []
            return [f"origin/{branch}", branch, *commits]
    return [*_USUAL]


def _top(folder: Path) -> str:
    done = git(folder, "rev-parse", "--show-toplevel")
    if done.returncode == 0:
        return done.stdout.strip()
    if "dubious ownership" in done.stderr:
        raise InvalidInput(
            f"{OPTION}: another user owns the checkout, and git refuses it: git config --global --add "
            f"safe.directory {folder}"
        )
    raise InvalidInput(
        f"{OPTION}: {folder} is no git checkout; run it in one, or compare with a baseline (without --slmperf-against)"
    )


def _commit(top: Path, name: str) -> str | None:
    if name.startswith("-"):
        return None
    return _output(top, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") or None


def git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder; it asks for no password. InvalidInput if git is not installed or does not end."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        return subprocess.run(
            ["git", "-c", f"core.hooksPath={os.devnull}", *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LONGEST_S,
        )
    except FileNotFoundError:
        raise InvalidInput(f"{OPTION}: git is not installed, and finds the merge base; install it") from None
    except subprocess.TimeoutExpired:
        raise InvalidInput(
            f"{OPTION}: git {words[0]} did not end within {LONGEST_S:.0f} s; is the file system there?"
        ) from None


def _output(folder: Path, *words: str) -> str:
    """What git printed; empty if it failed."""
    done = git(folder, *words)
    return done.stdout.strip() if done.returncode == 0 else ""


# The commit's files.


@contextlib.contextmanager
def checked_out(base: MergeBase) -> Iterator[Path]:
    """A worktree with the commit's files, removed at the end. InvalidInput, with git's words, if git cannot make it."""
    parent = files.writable_cache() / "merge-base"
    _remove_left_over(base.top, parent)
    place = Path(tempfile.mkdtemp(prefix=f"{base.short}-", dir=parent))
    tree = place / "tree"
    try:
        done = git(base.top, "worktree", "add", "--detach", "--force", str(tree), base.commit)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:]
            raise InvalidInput(f"{OPTION}: git cannot check out the {base.label}: {' '.join(said)}")
        yield tree
    finally:
        git(base.top, "worktree", "remove", "--force", str(tree))
        shutil.rmtree(place, ignore_errors=True)
        git(base.top, "worktree", "prune")


def _remove_left_over(top: Path, parent: Path) -> None:
    """Remove the worktrees of sessions that were killed."""
    parent.mkdir(parents=True, exist_ok=True)
    for place in parent.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - place.stat().st_mtime > LEFT_OVER_S:
                shutil.rmtree(place, ignore_errors=True)
