import builtins
import subprocess

import pytest

from pytest_slmperf.environment import commit
from pytest_slmperf.model.result import Commit


@pytest.fixture
def git(tmp_path, monkeypatch):
    """A repository with one commit, and a function that runs git in it."""
    for key, value in {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.org",
    }.items():
        monkeypatch.setenv(key, value)

    def run(*words):
        return subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    run("init", "-q", "-b", "trunk")
    (tmp_path / "a.txt").write_text("a")
    run("add", ".")
    run("commit", "-q", "-m", "one")
    return run


@pytest.fixture(params=["pytest-benchmark", "fallback"])
def source(request, monkeypatch):
    """Both ways to the answer must give the same one."""
    if request.param == "fallback":
        real_import = builtins.__import__

        def absent(name, *args, **kwargs):
            if name.startswith("pytest_benchmark"):
                raise ImportError(name)
            return real_import(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", absent)


@pytest.mark.usefixtures("source")
def test_commit_branch_and_dirt(git, tmp_path):
    head = git("rev-parse", "HEAD")
    assert commit.describe(tmp_path) == Commit(id=head, branch="trunk", dirty=False)
    (tmp_path / "a.txt").write_text("b")
    assert commit.describe(tmp_path).dirty


@pytest.mark.usefixtures("source")
def test_a_tag_with_dashes_changes_nothing(git, tmp_path):
    git("tag", "-a", "v1.0-rc-1", "-m", "x")
    assert commit.describe(tmp_path).id == git("rev-parse", "HEAD")


@pytest.mark.usefixtures("source")
def test_detached_head_has_no_branch(git, tmp_path):
    git("checkout", "-q", "--detach")
    assert commit.describe(tmp_path) == Commit(id=git("rev-parse", "HEAD"), branch=None)


@pytest.mark.usefixtures("source")
def test_outside_version_control_there_is_no_commit(tmp_path):
    assert commit.describe(tmp_path) == Commit()


@pytest.mark.usefixtures("source")
def test_a_repository_without_commits(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert commit.describe(tmp_path) == Commit()


@pytest.mark.usefixtures("source")
def test_without_git_installed(tmp_path, git, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit.describe(tmp_path) == Commit()
