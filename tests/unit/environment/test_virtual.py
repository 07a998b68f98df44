"""Environments of other commits: built once, whole or not at all, kept while they are used, and pruned."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest
from support.throwaway import wheel

from pytest_slmperf.environment import requirements, virtual
from pytest_slmperf.util import files

LEFT_OUT = {"tiny": ("small",)}


@pytest.fixture
def commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A commit's folder, whose requirements.txt asks for a package."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wheel(tmp_path / "wheels", "1.0", 0.0)
    (tmp_path / "commit/tree").mkdir(parents=True)
    write(tmp_path / "commit/tree", "tiny==1.0")
    return tmp_path / "commit/tree"


def write(folder: Path, *lines: str) -> None:
    where = ["--no-index", f"--find-links {folder.parents[1] / 'wheels'}"]
    (folder / "requirements.txt").write_text("\n".join([*where, *lines]))


def wanted(folder: Path, install: str | None = None) -> virtual.Wanted:
    definition = requirements.definition(folder, install)
    assert definition is not None
    return virtual.Wanted(definition, folder, "c" * 40, LEFT_OUT)


def build(folder: Path, said: list[str], install: str | None = None) -> str:
    with virtual.environment(wanted(folder, install), folder / "install.log", said.append) as python:
        return python


def _in_another_process(folder: Path) -> list[str]:
    said: list[str] = []
    build(folder, said)
    return said


def test_two_sessions_at_once_build_it_once(commit: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        lines = [line for said in pool.map(_in_another_process, [commit, commit]) for line in said]
    assert sum("building the environment" in line for line in lines) == 1, lines


def test_what_a_build_that_was_killed_has_left_is_built_again(commit: Path) -> None:
    said: list[str] = []
    python = build(commit, said)
    assert virtual.versions(python) == {"tiny": "1.0"}
    Path(python).parents[1].joinpath(virtual.DONE).unlink()
    assert build(commit, said) == python
    assert len(said) == 2


def test_packages_that_cannot_be_imported_beside_it_are_taken_away(commit: Path) -> None:
    wheel(commit.parents[1] / "wheels", "1.0", 0.0, name="small")
    write(commit, "tiny==1.0", "small")
    assert virtual.versions(build(commit, [])) == {"tiny": "1.0"}


def test_the_oldest_go_and_one_in_use_stays(commit: Path) -> None:
    used = wanted(commit)
    with virtual.environment(used, commit / "install.log", lambda text: None) as python:
        parent = Path(python).parents[2]
        _age(parent / used.key, days=100)
        for number in range(virtual.MOST + 1):  # as if built, the last of them the newest
            place = parent / f"other{number}"
            place.mkdir()
            place.with_suffix(".lock").touch()
            (place / virtual.DONE).touch()
            _age(place, days=10 - number)
        write(commit, "tiny==1.0  # no other words", "tiny>=1")
        build(commit, [])
        assert Path(python).exists(), "another session uses it"
        assert {path.name for path in parent.glob("other*") if path.is_dir()} == {"other2", "other3", "other4"}
    write(commit, "tiny>=0.9")
    build(commit, [])
    assert not Path(python).exists()


def _age(place: Path, days: float) -> None:
    then = time.time() - days * 86_400
    os.utime(place / virtual.DONE, (then, then))


def test_an_editable_install_lives_and_dies_with_the_commits_files(commit: Path) -> None:
    definition = wanted(commit, "-e .").definition
    assert definition.editable
    project = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
    (commit / "pyproject.toml").write_text(project + "[project]\nname = 'own'\nversion = '1'\n")
    (commit / "backend.py").write_text("")
    with pytest.raises(virtual.CannotBuild):  # this backend builds nothing
        build(commit, [], "--no-index -e .")
    assert not (files.cache_folder() / "environments").exists()


def test_the_day_counts_unless_every_version_is_fixed(commit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    for day in ("2026-01-01", "2026-01-02"):
        monkeypatch.setattr("time.strftime", lambda *_, day=day: day)
        keys.append(wanted(commit).key)
    assert keys[0] != keys[1]


def test_a_cache_that_cannot_be_written_is_named(commit: Path, tmp_path: Path) -> None:
    (tmp_path / "cache/pytest-slmperf").mkdir(parents=True)
    (tmp_path / "cache/pytest-slmperf/environments").write_text("a file")
    with pytest.raises(virtual.CannotBuild, match="environments: cannot be written"):
        build(commit, [])
