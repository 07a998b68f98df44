"""Step "Summarise": the job's summary, an annotation on the line of each failing test, and the text of the comment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import github


def main() -> int:
    name = github.value("SLMPERF_NAME", "slmperf")
    folder = Path(github.value("SLMPERF_FOLDER"))
    code = github.value("SLMPERF_EXIT_CODE")
    results = folder / "results.json"
    text = _summary(results, code) if results.is_file() else ""
    if code not in ("0", "1") or not results.is_file():
        said = github.MEANING.get(code, f"it ended with exit code {code}")
        text = (
            f"**Nothing can be said about the performance: {said}.** The log of the step “Measure” says more.\n\n{text}"
        )
    if name != "slmperf":
        text = f"**{name}**\n\n{text}"
    (folder / "summary.md").write_text(text, encoding="utf-8")
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with open(summary, "a", encoding="utf-8") as file:
            file.write(text + "\n")
    return 0


def _summary(results: Path, code: str) -> str:
    """The summary of the results, whose annotations are printed; empty where they cannot be read."""
    from pytest_slmperf.errors import SlmperfError
    from pytest_slmperf.model.results_file import load_results
    from pytest_slmperf.reports.markdown import annotations, job_summary

    try:
        loaded = load_results(results)
    except SlmperfError as error:
        github.warning(f"the results cannot be read, so there is no summary: {error}")
        return "The results cannot be read; the log of this step says why.\n"
    wanted = github.value("SLMPERF_APPROVE", "auto") == "always" and code == "0"  # then no regression is an error
    for line in annotations(loaded, accepted=wanted):
        print(line, flush=True)
    return job_summary(loaded)


if __name__ == "__main__":
    sys.exit(main())
