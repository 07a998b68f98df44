"""What an engine's environment is installed from at a commit: requirement files, an extra or a group, a lock file.

The words are those of ``pip install``.  Two commits that say the same have the same environment.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.util import read_file

SETTING = "slmperf_install"
NONE = "none"  # the setting's word for: both sides run in the interpreter that is there
FILES = ("requirements-perf.txt", "perf_tests/requirements.txt", "requirements/perf.txt", "requirements.txt")
GROUP = "perf"  # of the extra or dependency group in pyproject.toml
MOST_BYTES = 16 * 2**20  # of a requirement or lock file
_FILE = re.compile(r"(-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(?P<name>\S+)")
_EDITABLE = re.compile(r"(-e|--editable)\b")
_COMMENT = re.compile(r"(^|\s)#.*$")
_OPTION_OF_LINE = re.compile(r"\s--[a-z].*$")  # --hash=…


@dataclass(frozen=True, slots=True)
class Definition:
    """words: of ``pip install``; source: what they come from, for the reader; contents: of every file they name, in order

    requirements: all requirements known by name, ``==`` for a lock's
    local:        whether the project's own code is installed with them
    editable:     whether the environment refers to the checkout for as long as it is used
    locked:       whether every version is fixed
    """

    words: tuple[str, ...]
    source: str
    contents: tuple[str, ...]
    requirements: frozenset[str]
    local: bool = False
    editable: bool = False
    locked: bool = False

    def same(self, other: Definition) -> bool:
        """Whether both install the same, as far as the files tell: the project's own code is not compared."""
        return self.words == other.words and self.contents == other.contents


def definition(folder: Path, install: str | None) -> Definition | None:
    """What the environment of a checkout is installed from; None if nothing says so.

    install: the user's words of ``pip install``, "none", or None for what is usually there.  InvalidInput names the file.
    """
    if install is None:
        return _usual(folder)
    if install.strip() == NONE:
        return None
    try:
        words = shlex.split(install)
    except ValueError as error:
        raise InvalidInput(f"{SETTING}: {install!r} is not what a shell would understand: {error}") from None
    return _of_words(folder, words, install)


def _usual(folder: Path) -> Definition | None:
    for name in FILES:
        if (folder / name).is_file():
            return _of_words(folder, ["-r", name], name)
    wanted = _toml(folder / "pyproject.toml", _Project).named(GROUP)
    if wanted is None:
        return None
    locked = _locked(folder / "uv.lock")
    if locked is None:
        return Definition((*wanted,), f"{GROUP!r} in pyproject.toml", (), frozenset(wanted))
    return Definition((*wanted,), f"{GROUP!r} in pyproject.toml, uv.lock", locked, frozenset(locked), locked=True)


def _of_words(folder: Path, words: Sequence[str], source: str) -> Definition:
    kept: list[str] = []
    contents: list[str] = []
    requirements: set[str] = set()
    local = editable = False
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, _, value = word.partition("=")
        if name in ("-r", "--requirement", "-c", "--constraint"):
            file = value or (rest.pop(0) if rest else "")
            lines = list(_lines(folder / file, folder))
            kept += [name, file]
            contents += lines
            constraint = name in ("-c", "--constraint")
            requirements |= set() if constraint else {line for line in lines if _requirement(line) is not None}
            local = local or any(_is_local(line) for line in lines)
            editable = editable or any(_EDITABLE.match(line) for line in lines)
        elif name == "--group":
            group = value or (rest.pop(0) if rest else "")
            members = _toml(folder / "pyproject.toml", _Project).named(group)
            if members is None:
                raise InvalidInput(
                    f"{SETTING}: {folder.name}/pyproject.toml has no dependency group or extra {group!r}"
                )
            kept += members
            requirements |= {*members}
        else:
            kept.append(word)
            local, editable = local or _is_local(word), editable or bool(_EDITABLE.match(word))
            requirements |= {word} if _requirement(word) is not None and not _is_local(word) else set()
    return Definition((*kept,), source, (*contents,), frozenset(requirements), local, editable)


def _lines(path: Path, top: Path, depth: int = 0) -> Iterator[str]:
    """The lines of a requirement file and of those it names, without comments, continued lines joined."""
    if depth > 20:
        raise InvalidInput(f"{path}: requirement files name each other in a circle")
    if not read_file.exists(path):
        raise InvalidInput(f"{SETTING}: there is no {path.relative_to(top) if path.is_relative_to(top) else path}")
    text = read_file.read(path, MOST_BYTES).decode("utf-8", "replace").replace("\\\n", " ")
    for line in (_COMMENT.sub("", row).strip() for row in text.splitlines()):
        named = _FILE.match(line)
        if named and "://" not in named["name"]:
            yield from _lines(path.parent / named["name"], top, depth + 1)
        elif line:
            yield " ".join(line.split())


def _is_local(text: str) -> bool:
    """Whether a line or word installs code from a folder: ``.``, ``./lib``, ``-e .[perf]``, ``name @ file:…``."""
    plain = _EDITABLE.sub("", text).strip(" =")
    return bool(_EDITABLE.match(text)) or plain.startswith((".", "/", "file:")) or "@ file:" in plain


def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(_OPTION_OF_LINE.sub("", line))
    except InvalidRequirement:
        return None


class _Table(msgspec.Struct, rename="kebab"):
    """``[project]`` of pyproject.toml."""

    name: str = ""
    optional_dependencies: dict[str, list[str]] = {}


class _Project(msgspec.Struct, rename="kebab"):
    """pyproject.toml, as far as it says what is installed. A group may include another: ``{include-group = "…"}``."""

    project: _Table = msgspec.field(default_factory=_Table)
    dependency_groups: dict[str, list[str | dict[str, str]]] = {}

    def named(self, name: str, seen: tuple[str, ...] = ()) -> list[str] | None:
        """The requirements of a dependency group or an extra, with those that it includes; None without one."""
        members = self.dependency_groups.get(name, self.project.optional_dependencies.get(name))
        if members is None or name in seen:
            return None
        result: list[str] = []
        for member in members:
            further = [member.get("include-group", "")] if isinstance(member, dict) else self._own_extras(member)
            for other in further:
                result += self.named(other, (*seen, name)) or []
            result += [member] if isinstance(member, str) and not further else []
        return result

    def _own_extras(self, text: str) -> list[str]:
        """The extras of the project itself that a requirement names, such as ``shop[engine]`` in ``shop``."""
        requirement, own = _requirement(text), self.project.name
        if requirement is None or canonicalize_name(requirement.name) != canonicalize_name(own):
            return []
        return sorted(requirement.extras)


class _Package(msgspec.Struct):
    name: str
    version: str | None = None
    source: dict[str, Any] = {}


class _Lock(msgspec.Struct):
    """uv.lock, as far as it names versions."""

    package: list[_Package] = []


File = TypeVar("File", bound=msgspec.Struct)


def _toml(path: Path, kind: type[File]) -> File:
    """A TOML file, empty where there is none. InvalidInput names the file and the field."""
    if not read_file.exists(path):
        return kind()
    try:
        return msgspec.convert(tomllib.loads(read_file.read(path, MOST_BYTES).decode()), kind)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise InvalidInput(f"{path}: {error}") from None


def _locked(path: Path) -> tuple[str, ...] | None:
    """``name==version`` of every package that the lock file has in one version; None without a file."""
    versions: dict[str, set[str]] = {}
    for package in _toml(path, _Lock).package:
        if package.version is not None and "registry" in package.source:
            versions.setdefault(package.name, set()).add(package.version)
    pinned = tuple(sorted(f"{name}=={next(iter(each))}" for name, each in versions.items() if len(each) == 1))
    return pinned if read_file.exists(path) else None


def unmet(head: Definition, base: Definition | None, versions: dict[str, str]) -> str | None:
    """What the head asks for, the base does not, and the interpreter lacks; None if nothing.

    versions: of the distributions in the interpreter, by their canonical names.
    """
    for text in sorted(head.requirements - (base.requirements if base else frozenset())):
        wanted = _requirement(text)
        if wanted is None or wanted.url or (wanted.marker is not None and not wanted.marker.evaluate()):
            continue
        there = versions.get(canonicalize_name(wanted.name))
        if there is None and not head.locked:  # a lock holds what other groups need, too
            return f"asks for {text}, which this interpreter lacks"
        if there is not None and not wanted.specifier.contains(there, prereleases=True):
            return f"asks for {text}, and this interpreter has {there}"
    return None


def names(definition: Definition) -> tuple[str, ...]:
    """The distributions that it names, canonically."""
    parsed = (_requirement(text) for text in definition.requirements)
    return tuple(sorted({canonicalize_name(each.name) for each in parsed if each is not None}))
