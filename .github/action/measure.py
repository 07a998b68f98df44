"""Step "Measure": run pytest. The step itself succeeds, so that the report is kept; the last step gives the verdict."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import github


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
        *github.words("SLMPERF_ARGS", ""),
    ]
    if github.choice("SLMPERF_APPROVE", ("auto", "always", "never")) == "always" and github.on_default_branch():
        command.append("--slmperf-approve")
    print(github.line(shlex.join(command)), flush=True)
    code = subprocess.run(command).returncode
    github.output("exit-code", str(code))
    github.output("folder", str(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
