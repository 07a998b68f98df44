"""One comment per pull request: written once, then kept up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import fakehub
from support.throwaway import Project, step


@pytest.fixture
def report(tmp_path: Path) -> Path:
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "summary.md").write_text("## slmperf\n\nfirst\n")
    return folder


def comment(project: Project, hub: fakehub.Hub, report: Path, name: str = "slmperf", pull_request: int | None = 7):
    project.commit({"file": name + str(len(hub.calls))})
    environment = project.environment(hub, pull_request=pull_request)
    given = {"SLMPERF_NAME": name, "SLMPERF_FOLDER": str(report), "SLMPERF_TOKEN": "t"}
    return step("comment.py", project.workspace, environment | given)


def test_is_written_once_and_then_updated(project: Project, hub: fakehub.Hub, report: Path) -> None:
    hub.comments = [{"id": n, "body": f"chat {n}", "user": {"type": "User"}} for n in range(1, 131)]
    assert comment(project, hub, report).returncode == 0
    assert len(hub.comments) == 131
    assert "first" in hub.comments[-1]["body"]
    (report / "summary.md").write_text("## slmperf\n\nsecond\n")
    assert comment(project, hub, report).returncode == 0
    assert len(hub.comments) == 131, "a second run must not add a second comment"
    assert "second" in hub.comments[-1]["body"]
    assert "first" not in hub.comments[-1]["body"]


def test_two_uses_keep_two_comments(project: Project, hub: fakehub.Hub, report: Path) -> None:
    comment(project, hub, report, name="h100")
    comment(project, hub, report, name="cpu")
    assert len(hub.comments) == 2


def test_a_comment_of_somebody_else_is_left_alone(project: Project, hub: fakehub.Hub, report: Path) -> None:
    hub.comments = [{"id": 1, "body": "<!-- slmperf: slmperf -->\nquoted", "user": {"type": "User"}}]
    comment(project, hub, report)
    assert hub.comments[0]["body"].endswith("quoted")
    assert len(hub.comments) == 2


def test_a_token_that_only_reads_is_told_and_does_not_fail(project: Project, hub: fakehub.Hub, report: Path) -> None:
    hub.read_only = True
    done = comment(project, hub, report)
    assert done.returncode == 0
    assert "::notice" in done.stdout
    assert "summary" in done.stdout
    assert hub.comments == []


def test_nothing_happens_outside_a_pull_request(project: Project, hub: fakehub.Hub, report: Path) -> None:
    assert comment(project, hub, report, pull_request=None).returncode == 0
    assert hub.calls == []


def test_a_long_summary_is_cut_between_lines(project: Project, hub: fakehub.Hub, report: Path) -> None:
    (report / "summary.md").write_text("".join(f"| test {n} | 🐢 same |\n" for n in range(6000)))
    assert comment(project, hub, report).returncode == 0
    body = hub.comments[-1]["body"]
    assert len(body) < 65_536
    assert "cut here" in body
    assert body.split("\n")[-4].endswith("|")
