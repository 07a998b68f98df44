"""Which commit a branch started from, by what the CI system says, and its files beside the checkout."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support.throwaway import Project, git

from pytest_slmperf.environment import merge_base
from pytest_slmperf.errors import InvalidInput


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """main, release beside it, and a branch ``change`` of main, one commit further, that is checked out."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    project = Project(tmp_path / "repository")
    project.commit({"a/file": "1"})
    project.commit({"release": "1"}, branch="release")
    git("checkout", "-q", "main", cwd=project.workspace)
    project.commit({"a/file": "2"})
    project.commit({"change": "1"}, branch="change")
    return project.workspace


def commit(checkout: Path, name: str) -> str:
    return git("rev-parse", name, cwd=checkout).strip()


@pytest.mark.parametrize(
    ("ref", "variables", "name"),
    [
        (None, {}, "origin/main"),
        ("main", {}, "main"),
        ("release", {}, "release"),
        (None, {"GITHUB_BASE_REF": "release"}, "origin/release"),
        (None, {"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "release"}, "origin/release"),
        (None, {"CHANGE_TARGET": "main", "GITHUB_BASE_REF": ""}, "origin/main"),
        ("main", {"GITHUB_BASE_REF": "release"}, "main"),
    ],
)
def test_the_branch_that_this_goes_into(checkout: Path, ref: str | None, variables: dict[str, str], name: str) -> None:
    base = merge_base.find(checkout / "a", ref, variables)
    assert (base.top, base.ref) == (checkout, name)
    assert base.commit == git("merge-base", "HEAD", name, cwd=checkout).strip()


def test_gitlab_names_the_merge_base_where_it_has_not_fetched_the_target(checkout: Path) -> None:
    main = commit(checkout, "main")
    variables = {"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "not-fetched", "CI_MERGE_REQUEST_DIFF_BASE_SHA": main}
    base = merge_base.find(checkout, None, variables)
    assert (base.commit, base.label) == (main, f"merge base {main[:10]}")


@pytest.mark.parametrize(
    ("ref", "variables", "problem"),
    [
        ("mian", {}, "there is no mian here: fetch it"),
        ("--output=file", {}, "there is no --output=file here"),
        (None, {"GITHUB_BASE_REF": "gone"}, "there is no origin/gone here"),
        ("orphan", {}, "there is no merge base of HEAD and orphan: they have no commit in common"),
    ],
)
def test_what_is_not_there(checkout: Path, ref: str | None, variables: dict[str, str], problem: str) -> None:
    tree = git("hash-object", "-t", "tree", "-w", os.devnull, cwd=checkout).strip()
    git("branch", "orphan", git("commit-tree", tree, "-m", "another", cwd=checkout).strip(), cwd=checkout)
    with pytest.raises(InvalidInput, match=problem):
        merge_base.find(checkout, ref, variables)
    assert not (checkout / "file").exists()


def test_a_repository_without_any_branch_is_told_to_name_one(tmp_path: Path) -> None:
    git("init", "-q", "-b", "work", cwd=tmp_path)
    (tmp_path / "file").write_text("")
    git("add", "file", cwd=tmp_path)
    git("commit", "-q", "-m", "first", cwd=tmp_path)
    with pytest.raises(InvalidInput, match="no branch is known here that this one goes into"):
        merge_base.find(tmp_path, None, {})


def test_what_the_working_tree_changed(checkout: Path) -> None:
    base = merge_base.find(checkout, None, {})
    assert base.unchanged("a")
    assert not base.unchanged()  # the branch's own commit
    (checkout / "a/more").write_text("not added")
    assert not base.unchanged("a")
    (checkout / "a/more").unlink()
    (checkout / "a/file").write_text("not committed")
    assert not base.unchanged("a")


def test_the_commits_files_lie_beside_and_leave_nothing(checkout: Path, tmp_path: Path) -> None:
    hook = checkout / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch ran\n")
    hook.chmod(0o755)
    old = tmp_path / "cache/pytest-slmperf/merge-base/killed"
    old.mkdir(parents=True)
    os.utime(old, (0, time.time() - 2 * merge_base.LEFT_OVER_S))
    with merge_base.checked_out(merge_base.find(checkout, None, {})) as tree:
        assert (tree / "a/file").read_text() == "2"
        assert not (tree / "change").exists()
        assert not (tree / "ran").exists(), "the repository's hooks are for people"
        assert not old.exists()
    assert not list((tmp_path / "cache/pytest-slmperf/merge-base").iterdir())
    assert git("worktree", "list", cwd=checkout).count("\n") == 1
    assert git("status", "--porcelain", cwd=checkout) == ""
