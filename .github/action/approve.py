"""Step "Approve": on the default branch, make what was measured part of the stored baseline."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import baselines
import github

# Another run may push between our fetch and our push. Each such push is one job done, so twenty jobs need some twenty turns.
GIVE_UP_AFTER_S = 600.0
LONGEST_PAUSE_S = 20.0


def turns() -> Iterator[int]:
    """Numbers of the tries from 1, with a random pause before each further one that doubles up to ``LONGEST_PAUSE_S``.

    Random, or jobs that collided once would collide again. Ends ``GIVE_UP_AFTER_S`` after the first.
    """
    began, number = time.monotonic(), 1
    yield number
    while True:
        pause = random.uniform(0.1, 1.0) * min(LONGEST_PAUSE_S, 0.5 * 2**number)
        if time.monotonic() + pause > began + GIVE_UP_AFTER_S:
            return
        time.sleep(pause)
        number += 1
        yield number


def approve(results: Path, folder: Path) -> None:
    run, commit = os.environ.get("GITHUB_RUN_ID", "outside GitHub"), os.environ.get("GITHUB_SHA", "an unknown commit")
    command = [sys.executable, "-m", "pytest_slmperf.cli", "baselines", "approve", str(results)]
    done = subprocess.run([*command, "--baselines", str(folder), "--reason", f"run {run} of {commit}"])
    if done.returncode == 2:
        github.warning("some results were not stored, the others are; the log of this step says which and why")
    elif done.returncode:
        github.fail(f"the results could not be stored as baseline (exit code {done.returncode})")


def publish(results: Path, branch: str) -> None:
    """Approve on top of the branch as it is now, and push; again from the start when another run was quicker."""
    tries = 0
    for tries in turns():  # noqa: B007 (the last one is said)
        with tempfile.TemporaryDirectory() as scratch:
            clone = Path(scratch) / "branch"
            baselines.checkout_branch(branch, clone)
            approve(results, clone)
            github.git("add", "--all", cwd=clone)
            if not github.git("status", "--porcelain", cwd=clone).stdout.strip():
                print("the baselines are as they were")
                return
            author = ("-c", "user.name=slmperf", "-c", "user.email=slmperf@localhost")
            message = f"Baselines of {os.environ.get('GITHUB_SHA', 'an unknown commit')}"
            github.git(*author, "commit", "-q", "-m", message, cwd=clone)
            pushed = github.git(
                "push", "-q", github.repository_url(), f"HEAD:refs/heads/{branch}", cwd=clone, check=False
            )
            if pushed.returncode == 0:
                print(f"baselines stored in the branch {branch}")
                return
            reason = pushed.stderr.strip()
            if not any(word in reason for word in ("fetch first", "non-fast-forward", "cannot lock ref")):
                github.fail(f"the baselines cannot be pushed to {branch}: {reason}; the job needs contents: write")
    github.fail(f"the branch {branch} moved under us {tries} times; run the job again")


def why_not(code: str, policy: str) -> str:
    """Why a run that did not succeed is no baseline, and the mend. With approve=always no verdict fails a test."""
    if code != "1":
        return f"{github.MEANING.get(code, f'pytest ended with exit code {code}')}; the log of the step “Measure” says more"
    if policy == "always":
        return "tests failed by their own assertion or error, not by a verdict; mend them and run again"
    return "tests failed; if the change is wanted, run again with approve=always"


def main() -> int:
    source = github.choice("SLMPERF_BASELINES_FROM", ("branch", "artifact", "repository"))
    policy = github.choice("SLMPERF_APPROVE", ("auto", "always", "never"))
    results = Path(github.value("SLMPERF_FOLDER")) / "results.json"
    if github.choice("SLMPERF_STORE", ("true", "false")) == "false":
        print("nothing is stored here: another job does it")
    elif policy == "never" or not github.on_default_branch():
        print(
            "nothing is stored: only runs on the default branch store baselines, and only with approve=auto or always"
        )
    elif source == "repository":
        print(
            "nothing is stored: with baselines-from=repository, people approve and commit (slmperf baselines approve)"
        )
    elif github.value("SLMPERF_EXIT_CODE") != "0":
        github.warning(f"nothing is stored, because {why_not(github.value('SLMPERF_EXIT_CODE'), policy)}")
    elif not results.is_file():
        github.fail(f"{results} is missing although pytest passed: is pytest-slmperf active?")
    elif source == "branch":
        publish(results, github.value("SLMPERF_BASELINES_BRANCH", "slmperf-baselines"))
    else:
        approve(results, Path(github.value("SLMPERF_BASELINES", "baselines")))
        github.output("upload", "true")
    return 0


if __name__ == "__main__":
    sys.exit(main())
