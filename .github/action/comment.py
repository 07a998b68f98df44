"""Step "Comment": one comment per pull request and name, written once and then kept up to date."""

from __future__ import annotations

import sys
import urllib.error
from pathlib import Path
from typing import Any

import github

LONGEST = 60_000  # GitHub takes 65,536 characters


def body(name: str, folder: Path) -> str:
    text = (folder / "summary.md").read_text(encoding="utf-8")
    if len(text) > LONGEST:
        text = text[:LONGEST].rpartition("\n")[0] + "\n\n… cut here; the report has the rest.\n"
    return f"{marker(name)}\n{text}"


def marker(name: str) -> str:
    return f"<!-- slmperf: {name.replace('--', '- -')} -->"


def find(repository: str, number: int, name: str) -> dict[str, Any] | None:
    """Our comment, recognised by the marker it begins with."""
    page = 1
    while True:
        comments = github.api(f"/repos/{repository}/issues/{number}/comments?per_page=100&page={page}")
        for comment in comments:
            if comment["body"].startswith(marker(name)) and comment["user"]["type"] == "Bot":
                return comment
        if len(comments) < 100:
            return None
        page += 1


def main() -> int:
    number = github.event().get("pull_request", {}).get("number")
    if number is None:
        print("no pull request, no comment")
        return 0
    name = github.value("SLMPERF_NAME", "slmperf")
    repository = github.value("GITHUB_REPOSITORY")
    text = {"body": body(name, Path(github.value("SLMPERF_FOLDER")))}
    try:
        old = find(repository, number, name)
        if old is None:
            github.api(f"/repos/{repository}/issues/{number}/comments", "POST", text)
        else:
            github.api(f"/repos/{repository}/issues/comments/{old['id']}", "PATCH", text)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):
            # a pull request from a fork has a token that reads only; the summary of the job says the same
            github.notice(f"no comment: the token may not write ({error}). The job's summary holds the result")
            return 0
        github.warning(f"the comment could not be written: {error}")
    except urllib.error.URLError as error:
        github.warning(f"the comment could not be written: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
