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
    assert commit.describe(tmp_path, {}) == Commit(id=head, branch="trunk", dirty=False)
    (tmp_path / "a.txt").write_text("b")
    assert commit.describe(tmp_path, {}).dirty


@pytest.mark.usefixtures("source")
def test_a_tag_with_dashes_changes_nothing(git, tmp_path):
    git("tag", "-a", "v1.0-rc-1", "-m", "x")
    assert commit.describe(tmp_path, {}).id == git("rev-parse", "HEAD")


@pytest.mark.usefixtures("source")
def test_detached_head_has_no_branch(git, tmp_path):
    git("checkout", "-q", "--detach")
    assert commit.describe(tmp_path, {}) == Commit(id=git("rev-parse", "HEAD"), branch=None)


@pytest.mark.usefixtures("source")
def test_outside_version_control_there_is_no_commit(tmp_path):
    assert commit.describe(tmp_path, {}) == Commit()


@pytest.mark.usefixtures("source")
def test_a_repository_without_commits(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert commit.describe(tmp_path, {}) == Commit()


@pytest.mark.usefixtures("source")
def test_without_git_installed(tmp_path, git, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit.describe(tmp_path, {}) == Commit(dirty=None)


SHA = "1234567890abcdef1234567890abcdef12345678"
CI = [
    ({"GITHUB_SHA": SHA, "GITHUB_REF_NAME": "main"}, "main"),
    ({"GITHUB_SHA": SHA, "GITHUB_REF_NAME": "7/merge", "GITHUB_HEAD_REF": "faster"}, "faster"),
    ({"CI_COMMIT_SHA": SHA, "CI_COMMIT_REF_NAME": "trunk"}, "trunk"),
    ({"BUILDKITE_COMMIT": SHA, "BUILDKITE_BRANCH": "b"}, "b"),
    ({"GIT_COMMIT": SHA}, None),
]


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(("environ", "branch"), CI)
def test_without_a_checkout_the_ci_system_is_the_witness(tmp_path, environ, branch):
    found, note = commit.look_up(tmp_path, environ)
    assert found == Commit(id=SHA, branch=branch, dirty=None)  # unknown, not clean
    assert next(iter(environ)) in note
    assert "no git checkout" in note


@pytest.mark.usefixtures("source")
def test_a_checkout_of_another_user_says_so_and_takes_the_ci_systems_word(git, tmp_path, monkeypatch):
    """As in container jobs: the runner's user made the checkout, and the container runs as root."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    found, note = commit.look_up(tmp_path, {"GITHUB_SHA": SHA, "GITHUB_REF_NAME": "main"})
    assert found == Commit(id=SHA, branch="main", dirty=None)
    assert "another user owns the checkout" in note
    assert "safe.directory" in note
    assert commit.look_up(tmp_path, {}) == (Commit(dirty=None), note.replace("the commit is GITHUB_SHA's, and uncommitted "
        "changes are unknown", "the commit is unknown"))  # fmt: skip


@pytest.mark.usefixtures("source")
def test_a_detached_checkout_takes_its_branch_from_the_ci_system(git, tmp_path):
    git("checkout", "-q", "--detach")
    head = git("rev-parse", "HEAD")
    assert commit.look_up(tmp_path, {"GITHUB_SHA": head, "GITHUB_REF_NAME": "main"}) == (
        Commit(id=head, branch="main", dirty=False),
        None,
    )
    assert commit.describe(tmp_path, {"GITHUB_SHA": SHA, "GITHUB_REF_NAME": "main"}).branch is None  # another commit


@pytest.mark.usefixtures("source")
def test_in_ci_an_unknown_commit_is_said(tmp_path):
    assert commit.look_up(tmp_path, {"CI": "true"}) == (
        Commit(dirty=None),
        "the commit is unknown: this is no git checkout",
    )
    assert commit.look_up(tmp_path, {}) == (Commit(), None)  # someone's folder


@pytest.mark.usefixtures("source")
def test_without_git_a_checkout_says_why_it_has_no_commit(git, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit.look_up(tmp_path, {}) == (Commit(dirty=None), "the commit is unknown: git is not installed")


@pytest.mark.parametrize("value", ["", "not a commit", "abc", SHA + "; rm -rf /"])
def test_a_variable_that_holds_no_commit_id_is_no_witness(tmp_path, value):
    assert commit.describe(tmp_path, {"GITHUB_SHA": value}) == Commit()
