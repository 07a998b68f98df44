"""Baselines that travel as an artifact: taken from the default branch of the repository itself only."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support import fakehub
from support.throwaway import Project, step


def artifact(number: int, created: str, branch: str = "main", head: int = 1, **changes: Any) -> dict[str, Any]:
    run = {"head_branch": branch, "repository_id": 1, "head_repository_id": head}
    about = {"id": number, "name": "slmperf-baselines", "expired": False, "created_at": created, "workflow_run": run}
    return about | changes


def archive(files: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    return data.getvalue()


def restore(project: Project, hub: fakehub.Hub, source: str = "artifact", **more: str):
    project.commit({"file": str(len(hub.calls))})
    given = {"SLMPERF_BASELINES_FROM": source, "SLMPERF_BASELINES": "baselines", "SLMPERF_TOKEN": "t"}
    return step("restore.py", project.workspace, project.environment(hub) | given | more)


def test_the_newest_of_the_default_branch_is_taken(project: Project, hub: fakehub.Hub) -> None:
    hub.artifacts = [
        artifact(1, "2026-01-01T00:00:00Z"),
        artifact(2, "2026-01-02T00:00:00Z"),
        artifact(3, "2026-01-03T00:00:00Z", expired=True),
        artifact(4, "2026-01-04T00:00:00Z", branch="topic"),
        # a fork's branch may be called main as well
        artifact(5, "2026-01-05T00:00:00Z", head=2),
    ]
    hub.archives[2] = archive({"machine/main/test.json": "{}"})
    done = restore(project, hub)
    assert done.returncode == 0, done.stdout
    assert (project.workspace / "baselines/machine/main/test.json").read_text() == "{}"
    assert "1 baseline files" in done.stdout


def test_none_is_said_and_is_no_error(project: Project, hub: fakehub.Hub) -> None:
    done = restore(project, hub)
    assert done.returncode == 0
    assert "no baseline in the artifact yet" in done.stdout


def test_names_that_leave_the_folder_are_refused(project: Project, hub: fakehub.Hub) -> None:
    hub.artifacts = [artifact(1, "2026-01-01T00:00:00Z")]
    hub.archives[1] = archive({"../../outside.json": "{}"})
    done = restore(project, hub)
    assert done.returncode == 1
    assert "../../outside.json" in done.stdout
    assert not (project.folder / "outside.json").exists()


PACKED = archive({"a.json": "{}" * 99})
FLAGS = PACKED.index(b"PK\x01\x02") + 8  # of the first member in the directory: whether it is encrypted


def _spoilt(data: bytes, at: int) -> bytes:
    return data[:at] + b"\xff\xff" + data[at + 2 :]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"no archive", id="none"),
        pytest.param(PACKED[:40], id="cut short"),
        pytest.param(_spoilt(PACKED, 45), id="spoilt"),
        pytest.param(_spoilt(PACKED, FLAGS), id="encrypted"),
        pytest.param(archive({"a": "{}", "a/b.json": "{}"}), id="file and folder"),
    ],
)
def test_an_artifact_that_is_no_archive_is_named(project: Project, hub: fakehub.Hub, data: bytes) -> None:
    hub.artifacts = [artifact(1, "2026-01-01T00:00:00Z")]
    hub.archives[1] = data
    done = restore(project, hub)
    assert done.returncode == 1
    assert "::error title=slmperf::the baseline artifact" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_an_unreachable_service_is_not_taken_for_no_baseline(project: Project, hub: fakehub.Hub) -> None:
    done = restore(project, hub, GITHUB_API_URL="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "cannot be read" in done.stdout


def test_an_unreachable_repository_is_not_taken_for_no_baseline(project: Project, hub: fakehub.Hub) -> None:
    done = restore(project, hub, source="branch", GITHUB_REPOSITORY="someone/else")
    assert done.returncode == 1
    assert "cannot be read" in done.stdout


def test_links_in_the_branch_are_left_out(project: Project, hub: fakehub.Hub) -> None:
    project.commit({"machine/main/test.json": "{}"}, branch="slmperf-baselines")
    Path(project.workspace / "machine/link.json").symlink_to("/etc/hostname")
    project.commit({"other.json": "{}"}, branch="slmperf-baselines")
    done = restore(project, hub, source="branch")
    assert done.returncode == 0, done.stdout
    assert (project.workspace / "baselines/machine/main/test.json").is_file()
    assert not (project.workspace / "baselines/machine/link.json").exists()


def test_a_wrong_source_is_named(project: Project, hub: fakehub.Hub) -> None:
    done = restore(project, hub, source="cloud")
    assert done.returncode == 1
    assert "baselines-from: 'cloud' is none of branch, artifact, repository" in done.stdout


def test_a_schedule_finds_and_stores_although_its_event_tells_no_branch(project: Project, hub: fakehub.Hub) -> None:
    hub.artifacts = [artifact(1, "2026-01-01T00:00:00Z"), artifact(2, "2026-01-02T00:00:00Z", branch="topic")]
    hub.archives[1] = archive({"machine/main/test.json": "{}"})
    project.commit({"file": "1"})
    given = {"SLMPERF_BASELINES_FROM": "artifact", "SLMPERF_BASELINES": "baselines", "SLMPERF_TOKEN": "t"}
    environment = project.environment(hub, name="schedule") | given
    assert "1 baseline files" in step("restore.py", project.workspace, environment).stdout
    more = {"SLMPERF_FOLDER": "nowhere", "SLMPERF_EXIT_CODE": "0"}
    done = step("approve.py", project.workspace, environment | more)
    assert "results.json is missing although pytest passed" in done.stdout  # it would have stored them
