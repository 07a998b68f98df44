"""Step "Measure": run pytest. The step itself succeeds, so that the report is kept; the last step gives the verdict."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import github

LEFT_EARLY = 6  # none of pytest's own exit codes


def unfinished(results: Path, session: str) -> str | None:
    """Why the results are not those of this finished session, None where they are. A test that ends its process
    (``os._exit(0)``) makes pytest's exit code 0, and ``--collect-only`` runs nothing."""
    try:
        written = json.loads(results.read_text(encoding="utf-8"))["session"]
        known, finished = written["id"] == session, bool(written.get("finished_at"))
    except FileNotFoundError:
        return "no results were written: did a test end the process, or do the arguments keep tests from running?"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "the results cannot be read"
    if not known:
        return "the results are another session's"
    return None if finished else "the results are not finished"


def comparison() -> list[str]:
    """What pytest is told of the other side: nothing where it compares with the stored baselines."""
    against = github.value("SLMPERF_AGAINST", "auto")
    if against == "auto":
        against = merge_base() or "baseline"
    if against == "baseline":
        return []
    words = [f"--slmperf-against={against}"]
    install = github.value("SLMPERF_INSTALL", "action")
    if against.partition("=")[0] == "merge-base" and install != "none":
        words.append(f"--slmperf-install={'none' if install == 'action' else install}")
    return words


def merge_base() -> str | None:
    """The merge base of a pull request or a merge queue; None in other runs, and where the checkout has no history."""
    queue = github.event().get("merge_group", {}).get("base_sha")
    if queue is None and not os.environ.get("GITHUB_EVENT_NAME", "").startswith("pull_request"):
        return None
    git = ["git", "rev-parse", "--is-shallow-repository"]
    if subprocess.run(git, capture_output=True, text=True).stdout.strip() != "false":
        github.warning(
            "compared with the stored baselines and not with the merge base, since the checkout has no history, or git "
            "refuses it: give actions/checkout fetch-depth: 0 (or this action against: baseline)"
        )
        return None
    return "merge-base" if queue is None else f"merge-base={queue}"


def main() -> int:
    name = github.value("SLMPERF_NAME", "slmperf")
    folder = Path(os.environ.get("RUNNER_TEMP") or tempfile.gettempdir()) / f"report-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    for old in ("results.json", "report.html", "junit.xml", "summary.md"):
        # a self-hosted runner keeps its folders: yesterday's results must not pass for today's
        (folder / old).unlink(missing_ok=True)
    command = [
        sys.executable,
        *("-m", "pytest", "--slmperf"),
        *github.words("SLMPERF_TESTS", "perf_tests/"),
        f"--slmperf-baselines={github.value('SLMPERF_BASELINES', 'baselines')}",
        f"--slmperf-html={folder / 'report.html'}",
        f"--slmperf-json={folder / 'results.json'}",
        f"--junitxml={folder / 'junit.xml'}",
        *comparison(),
        *github.words("SLMPERF_ARGS", ""),
    ]
    if github.choice("SLMPERF_APPROVE", ("auto", "always", "never")) == "always" and github.on_default_branch():
        command.append("--slmperf-approve")
    print(github.line(shlex.join(command)), flush=True)
    session = uuid.uuid4().hex
    code = subprocess.run(command, env={**os.environ, "SLMPERF_SESSION_ID": session}).returncode
    if code in (0, 1) and (reason := unfinished(folder / "results.json", session)) is not None:
        github.error(f"pytest ended with exit code {code}, but {reason}")
        code = LEFT_EARLY
    github.output("exit-code", str(code))
    github.output("folder", str(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
