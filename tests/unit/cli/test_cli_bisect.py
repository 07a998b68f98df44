"""Bisecting a real repository, every commit measured by a real pytest session on the simulated engine."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from pytest_slmperf.model.results_file import encode
from pytest_slmperf.model.verdict import VerdictRecord

PERF_TEST = """
import pytest
from pathlib import Path

@pytest.mark.slmperf(engine="simulated", model="opt-125m", settings={"slowdown": float(Path("slow.txt").read_text())})
def test_speed(slmperf):
    slmperf.offline(batch=4, input_len=16, output_len=8)
"""
# slow.txt of each commit; "broken" cannot be built. The fourth commit is the first slow one.
COMMITS = ["0.0", "0.0", "broken", "0.4", "0.4"]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a tag per commit (c0 … c4), and the perf test beside it."""
    (tmp_path / "perf").mkdir()
    (tmp_path / "perf" / "test_speed.py").write_text(PERF_TEST)
    folder = tmp_path / "repo"
    folder.mkdir()
    for key in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{key}_NAME", "a")
        monkeypatch.setenv(f"GIT_{key}_EMAIL", "a@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def git(*words):
        return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q", "-b", "main")
    for number, speed in enumerate(COMMITS):
        (folder / "slow.txt").write_text(speed)
        (folder / "number.txt").write_text(str(number))
        git("add", ".")
        git("commit", "-q", "-m", f"commit {number}")
        git("tag", f"c{number}")
    os.chdir(folder)
    return git


WORDS = [
    "../perf/test_speed.py",
    "--against",
    "engine.slowdown=0.0,engine.seed=7",
    "--setup",
    "! grep -q broken slow.txt",
]


def test_a_commit_that_cannot_be_built_is_skipped_and_the_tree_is_as_before(command, repository):
    # The only commit between cannot be built: git cannot tell it from c3, and says so.
    run = command("bisect", "c1", "c3", *WORDS, "--json")
    assert run.code == 2
    assert "could not be judged" in run.err
    assert repository("branch", "--show-current") == "main"
    assert not os.path.exists(".git/BISECT_LOG")


def test_without_a_broken_commit_the_answer_is_one(command, repository):
    run = command("bisect", "c2", "c4", "../perf/test_speed.py", *WORDS[1:3], "--setup", "git status -s", "--json")
    assert run.code == 0
    found = json.loads(run.out)
    assert found["first_bad"] == repository("rev-parse", "c3")
    assert found["about"].endswith("commit 3")
    assert repository("status", "--porcelain", "--untracked-files=no") == ""


def test_dry_run_says_how_many_steps_and_changes_nothing(command, repository):
    run = command("bisect", "c0", "c4", *WORDS, "--dry-run")
    assert run.code == 0
    assert "4 commits, about 3 measurements" in run.out
    assert "git bisect run" in run.out
    assert not os.path.exists(".git/BISECT_LOG")
    assert json.loads(command("bisect", "c0", "c4", *WORDS, "--dry-run", "--json").out)["steps"] == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["c0", "nonesuch", "../perf/test_speed.py"], "'nonesuch' is no commit"),
        (["--", "-x", "c1", "../perf/test_speed.py"], "'-x' is no commit"),
        (["c4", "c0", "../perf/test_speed.py"], "wrong way round"),
        (["c0", "c4", "../perf/absent.py"], "there is no such file"),
    ],
)
def test_wrong_usage(command, repository, words, said):
    run = command("bisect", *words)
    assert run.code == 4
    assert said in run.err


def test_changes_that_are_not_committed_are_kept_safe(command, repository):
    Path("slow.txt").write_text("mine")
    run = command("bisect", "c0", "c4", *WORDS)
    assert run.code == 4
    assert "commit or stash" in run.err
    assert Path("slow.txt").read_text() == "mine"


def test_outside_a_repository(command, tmp_path):
    (tmp_path / "t.py").write_text("")
    run = command("bisect", "a", "b", "t.py")
    assert run.code == 4
    assert "is no commit of the repository in this folder" in run.err


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([{"metric": "m", "verdict": "regressed"}, {"metric": "n", "verdict": "same"}], 1),
        ([{"metric": "m", "verdict": "same"}, {"metric": "n", "verdict": "improved"}], 0),
        ([{"metric": "m", "verdict": "inconclusive"}], 125),
        ([{"metric": "m", "verdict": "new"}], 125),
        ([{"metric": "m", "verdict": "regressed", "gate": False}], 125),
        ([], 125),
    ],
)
def test_what_a_step_tells_git(tmp_path, make_results, make_result, verdicts, code):
    from pytest_slmperf.contrib.commands.bisect import judge

    path = tmp_path / "r.json"
    results = make_results(make_result())
    results.results[0].verdicts = [VerdictRecord(**verdict) for verdict in verdicts]
    path.write_bytes(encode(results))
    assert judge(path) == code
    assert judge(tmp_path / "absent.json") == 125
