"""Step "Restore baselines": lay the stored baselines where pytest will look for them."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import baselines
import github


def main() -> int:
    source = github.choice("SLMPERF_BASELINES_FROM", ("branch", "artifact", "repository"))
    folder = Path(github.value("SLMPERF_BASELINES", "baselines"))
    count: int | None
    if source == "repository":
        count = sum(1 for path in folder.rglob("*.json")) or None
    elif source == "artifact":
        count = baselines.download_artifact(f"{github.value('SLMPERF_NAME', 'slmperf')}-baselines", folder)
    else:
        branch = github.value("SLMPERF_BASELINES_BRANCH", "slmperf-baselines")
        with tempfile.TemporaryDirectory() as scratch:
            there = baselines.checkout_branch(branch, Path(scratch) / "branch")
            count = baselines.copy_files(Path(scratch) / "branch", folder) if there else None
    if count is None:
        github.notice(f"no baseline in the {source} yet: tests are judged 'new' until the default branch stores one")
    else:
        print(f"{count} baseline files from the {source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
