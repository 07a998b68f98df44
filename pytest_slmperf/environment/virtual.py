"""The virtual environment of another commit: built once with pip or uv, kept in the user's cache, shared by sessions."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pytest_slmperf.environment.requirements import SETTING, Definition
from pytest_slmperf.errors import SlmperfError
from pytest_slmperf.util import files, read_file

FORMAT = 1  # incremented when an environment that this version builds differs from an earlier version's
MOST, MOST_DAYS = 4, 14.0  # environments that are kept, and days since the last session that used one
LONGEST_S = 3600.0  # of one step of a build
TAIL = 6  # lines of the installer's output in a message
# pip's settings that decide what is installed, from pip.conf or the environment
DECIDING = {"index-url", "extra-index-url", "find-links", "no-index", "constraint", "pre", "no-binary", "only-binary"}
DONE = "complete.json"  # written last: a folder without it was left by a build that did not end


@dataclass(frozen=True, slots=True)
class Wanted:
    """An environment to be built.

    definition: what is installed
    folder:     the commit's files, where the words' paths start
    commit:     the commit, for the key of an environment that holds the project's own code
    left_out:   by distribution, others that it brings and that cannot be imported beside it
    python:     the interpreter whose version the environment has; None: this one
    """

    definition: Definition
    folder: Path
    commit: str
    left_out: Mapping[str, Sequence[str]]
    python: str | None = None

    @property
    def key(self) -> str:
        """The hash of everything that decides what is installed.

        Without a lock the versions also depend on the day: no candidate is compared with last month's packages.
        """
        own = self.definition
        day = "" if own.locked else time.strftime("%Y-%m-%d", time.gmtime())
        code = self.commit if own.local else ""
        parts = [FORMAT, own.words, own.contents, day, code, self.python or sys.executable, platform.python_version()]
        return hashlib.sha256(json.dumps([*parts, platform.machine()]).encode()).hexdigest()[:16]


class CannotBuild(SlmperfError):
    """The environment cannot be built; the message has the command, its last lines, the log and the fix."""


@contextlib.contextmanager
def environment(wanted: Wanted, log: Path, say: Callable[[str], None]) -> Iterator[str]:
    """The interpreter of the environment, built now unless it is there; nobody removes it while this is open.

    log: of the installer; say: receives a line before a build.  Raises CannotBuild.
    """
    # An editable install needs the commit's files, which are gone after the session.
    parent = wanted.folder.parent if wanted.definition.editable else files.writable_cache() / "environments"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(parent / f"{wanted.key}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise CannotBuild(str(files.cannot_write(parent, error))) from error
    place = parent / wanted.key
    python = place / "bin" / "python"
    try:
        _share(lock, say)
        while not _complete(place):
            fcntl.flock(lock, fcntl.LOCK_EX)  # another session may have built it while this one waited
            if not _complete(place):
                _build(wanted, place, log, say)
            fcntl.flock(lock, fcntl.LOCK_SH)
        os.utime(place / DONE)
        _prune(parent, place)
        yield str(python)
    finally:
        os.close(lock)


def _share(lock: int, say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another session, which builds the environment of the merge base")
        fcntl.flock(lock, fcntl.LOCK_SH)


def _complete(place: Path) -> bool:
    return read_file.exists(place / DONE) and os.access(place / "bin" / "python", os.X_OK)


def _build(wanted: Wanted, place: Path, log: Path, say: Callable[[str], None]) -> None:
    python = str(place / "bin" / "python")
    make, install, remove = _commands(wanted, place, python)
    what = shlex.join(wanted.definition.words)
    say(f"building the environment of the merge base with {'uv pip' if _uv() else 'pip'} install {what} (log: {log})")
    started = time.monotonic()
    try:
        shutil.rmtree(place, ignore_errors=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        for command in (make, install):
            _run(command, wanted, log)
        installed = _installed(python)
        unusable = [each for name in wanted.left_out if name in installed for each in wanted.left_out[name]]
        if unusable := [name for name in unusable if name in installed]:
            _run([*remove, *unusable], wanted, log)
        facts = {"words": wanted.definition.words, "seconds": round(time.monotonic() - started, 1)}
        files.replace(place / DONE, json.dumps(facts).encode())
    except OSError as error:
        shutil.rmtree(place, ignore_errors=True)
        raise CannotBuild(str(files.cannot_write(place, error))) from error
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)  # of several GB, on a disk that may be full because of it
        raise
    finally:
        files.hide_secrets(log.parent)


def _commands(wanted: Wanted, place: Path, python: str) -> tuple[list[str], list[str], list[str]]:
    """The commands that make the environment, install into it, and remove from it."""
    base = wanted.python or sys.executable
    if uv := _uv():
        pip = [uv, "pip"]
        return (
            [uv, "venv", "--quiet", "--python", base, str(place)],
            [*pip, "install", "--python", python, *wanted.definition.words],
            [*pip, "uninstall", "--python", python],
        )
    pip = [sys.executable, "-m", "pip", "--python", python]
    return (
        [base, "-m", "venv", "--without-pip", str(place)],
        [*pip, "install", "--disable-pip-version-check", "--no-input", *wanted.definition.words],
        [*pip, "uninstall", "--yes"],
    )


def _uv() -> str | None:
    """uv, where it would install what pip does: it reads none of pip's settings (an index, constraints)."""
    uv = shutil.which("uv")
    if uv is None:
        return None
    command = [sys.executable, "-m", "pip", "config", "list"]  # prints nothing where there is no pip
    settings = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.splitlines()
    names = {line.partition("=")[0].rpartition(".")[2] for line in settings}
    return None if names & DECIDING else uv


def _run(command: Sequence[str], wanted: Wanted, log: Path) -> None:
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                command,
                cwd=wanted.folder,
                env={name: text for name, text in os.environ.items() if name != "PYTHONPATH"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LONGEST_S,
            )
            why = "" if done.returncode == 0 else f"exit code {done.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            why = str(error)
    if not why:
        return
    last = "".join(f"\n    {line}" for line in read_file.tail(log, TAIL).splitlines())
    raise CannotBuild(
        f"the environment of the merge base cannot be built from {wanted.definition.source}: {shlex.join(command)}: {why}; "
        f"if the engine is installed from something else, name it in {SETTING} (log: {log}){last}"
    )


def _installed(python: str) -> frozenset[str]:
    """Canonical names of the distributions of an interpreter."""
    return frozenset(versions(python))


def versions(python: str | None = None) -> dict[str, str]:
    """The versions of all distributions of an interpreter (None: this one), by canonical name; empty if it fails."""
    code = (
        "import importlib.metadata as m, json, re; print(json.dumps({re.sub('[-_.]+', '-', d.metadata['Name']).lower(): "
        "d.version for d in m.distributions() if d.metadata['Name']}))"
    )
    done = subprocess.run([python or sys.executable, "-c", code], capture_output=True, cwd="/", timeout=120)
    try:
        result: dict[str, str] = json.loads(done.stdout)
    except ValueError:
        return {}
    return result


def installed_from(top: Path) -> list[str]:
    """The distributions of this interpreter that are installed from a folder of this checkout, such as by ``-e .``."""
    names = []
    for distribution in importlib.metadata.distributions():
        text = distribution.read_text("direct_url.json")
        url = json.loads(text).get("url", "") if text else ""
        if url.startswith("file://") and Path(unquote(url.removeprefix("file://"))).is_relative_to(top):
            names.append(distribution.name)
    return sorted(set(names) - {"pytest-slmperf"})


def _prune(parent: Path, own: Path) -> None:
    """Remove environments without a session for ``MOST_DAYS``, and the oldest beyond ``MOST``; none that is in use."""
    dated = []
    for lock in parent.glob("*.lock"):
        with contextlib.suppress(OSError):
            dated.append(((lock.with_suffix("") / DONE).stat().st_mtime, lock))
    oldest = time.time() - MOST_DAYS * 86_400
    for number, (used, lock) in enumerate(sorted(dated, reverse=True)):
        place = lock.with_suffix("")
        if place != own and (number >= MOST or used < oldest):
            _remove(lock, place)


def _remove(lock: Path, place: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(lock, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (place / DONE).unlink(missing_ok=True)
            shutil.rmtree(place, ignore_errors=True)
        finally:
            os.close(descriptor)
