"""The action's steps from end to end on a throw-away repository, with the simulated engine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support import composite, fakehub
from support.throwaway import Project, git

SUITE = """
def test_chat(slmperf):
    slmperf.offline(batch=8, input_len=16, output_len=16)
"""


@pytest.fixture
def used(project: Project) -> Project:
    project.commit({"perf_tests/test_chat.py": SUITE, "pytest.ini": "[pytest]\n"})
    return project


def act(project: Project, hub: fakehub.Hub, slowdown: float = 0.0, pull_request: int | None = None, **inputs: str):
    """One run of the action, in a clone of its own as each job has one, against the stored baselines."""
    return act_on(project, hub, (), slowdown, pull_request, **{"against": "baseline"} | inputs)


def act_on(
    project: Project,
    hub: fakehub.Hub,
    clone: Sequence[str],
    slowdown: float = 0.0,
    pull_request: int | None = None,
    **inputs: str,
):
    """One run of the action. ``clone``: further words of git clone."""
    number = len(list(project.folder.glob("job-*")))
    job = project.folder / f"job-{number}"
    git("clone", "-q", *clone, project.remote.as_uri(), str(job), cwd=project.folder)
    environment = project.environment(hub, pull_request) | {"SLMPERF_SIMULATED_SLOWDOWN": str(slowdown)}
    settings = {"install": "none", "python": sys.executable, "args": "--slmperf-engine simulated -p no:cacheprovider"}
    return composite.run(job, project.folder / f"temp-{number}", environment, **settings | inputs)


def test_first_run_unchanged_change_and_slowed_engine(used: Project, hub: fakehub.Hub) -> None:
    first = act(used, hub)
    assert first.failed is None, first.log
    assert any("no baseline in the branch yet" in line for line in first.annotations)
    stored = used.stored()
    assert [name for name in stored if name.endswith(".json")]
    assert "1 new" in first.summary
    assert first.used["Keep the report"]["name"] == "slmperf"
    folder = Path(first.used["Keep the report"]["path"])
    assert {"report.html", "results.json", "junit.xml", "summary.md"} <= {path.name for path in folder.iterdir()}

    unchanged = act(used, hub, pull_request=7)
    assert unchanged.failed is None, unchanged.log
    assert f"{len(stored)} baseline files from the branch" in unchanged.log
    assert not [line for line in unchanged.annotations if line.startswith("::error")]
    assert len(hub.comments) == 1
    assert used.stored() == stored

    slowed = act(used, hub, slowdown=0.3, pull_request=7)
    assert slowed.failed == "Verdict", slowed.log
    errors = [line for line in slowed.annotations if line.startswith("::error")]
    assert len(errors) == 1, slowed.log
    assert "file=perf_tests/test_chat.py" in errors[0]
    assert "line=" in errors[0]
    assert "output_throughput" in errors[0]
    assert "regressed" in slowed.summary
    assert len(hub.comments) == 1, "the comment is updated in place"
    assert "regressed" in hub.comments[0]["body"]
    assert used.stored() == stored, "a pull request stores nothing"


def test_a_regression_on_the_default_branch_is_stored_only_when_asked_for(used: Project, hub: fakehub.Hub) -> None:
    act(used, hub)
    before = git("rev-parse", "slmperf-baselines", cwd=used.remote)
    slowed = act(used, hub, slowdown=0.3)
    assert slowed.failed == "Verdict"
    assert any("approve=always" in line for line in slowed.annotations)
    assert git("rev-parse", "slmperf-baselines", cwd=used.remote) == before
    wanted = act(used, hub, slowdown=0.3, approve="always")
    assert wanted.failed is None, wanted.log
    assert git("rev-parse", "slmperf-baselines", cwd=used.remote) != before
    again = act(used, hub, slowdown=0.3, pull_request=3)
    assert again.failed is None, again.log


def test_a_push_that_is_refused_loses_no_report(used: Project, hub: fakehub.Hub) -> None:
    """The job lacks contents: write, for instance."""
    hook = used.remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not allowed >&2\nexit 1\n")
    hook.chmod(0o755)
    done = act(used, hub)
    assert done.failed == "Approve"
    assert {"Keep the report", "Comment"} <= set(done.ran)
    assert "Verdict" not in done.ran  # the job has failed already


def test_wrong_usage_is_not_told_to_approve(used: Project, hub: fakehub.Hub) -> None:
    done = act(used, hub, tests="perf_tests/ --slmperf-limit nonsense=0.1")
    assert any("it was called wrongly" in line for line in done.annotations), done.log
    assert not any("approve=always" in line for line in done.annotations)


def test_an_approved_regression_is_no_error(used: Project, hub: fakehub.Hub) -> None:
    act(used, hub)
    wanted = act(used, hub, slowdown=0.3, approve="always")
    assert wanted.failed is None, wanted.log
    assert any(line.startswith("::notice") and "regressed" in line for line in wanted.annotations)
    assert not any(line.startswith("::error") for line in wanted.annotations)


def test_one_result_with_nothing_to_store_does_not_fail_the_others(used: Project, hub: fakehub.Hub) -> None:
    lost = """
import pytest

@pytest.mark.slmperf(settings={"fail": "round-exit"})
def test_lost(slmperf):
    with pytest.raises(pytest.fail.Exception):
        slmperf.offline(batch=2, input_len=8, output_len=8)
"""
    used.commit({"perf_tests/test_lost.py": lost})
    done = act(used, hub)
    assert done.failed is None, done.log
    assert any(line.startswith("::warning") and "some results were not stored" in line for line in done.annotations)
    assert used.stored()


def test_artifact_baselines_are_handed_to_the_upload(used: Project, hub: fakehub.Hub) -> None:
    done = act(used, hub, baselines_from="artifact")
    assert done.failed is None, done.log
    assert done.used["Keep the baselines"]["name"] == "slmperf-baselines"
    assert list((used.folder / "job-0" / "baselines").rglob("*.json"))
    assert used.stored() == []


def test_a_run_that_says_nothing_is_not_green(used: Project, hub: fakehub.Hub) -> None:
    done = act(used, hub, tests="no_such_folder/")
    assert done.failed == "Verdict"
    assert "Nothing can be said about the performance" in done.summary
    assert used.stored() == []


def test_a_test_that_ends_its_process_and_a_run_without_tests_are_not_green(used: Project, hub: fakehub.Hub) -> None:
    """Both have exit code 0, and neither has results of this very session."""
    done = act(used, hub, args="--slmperf-engine simulated --collect-only")
    assert (done.failed, "without finished results" in done.summary) == ("Verdict", True)
    used.commit({"perf_tests/test_leaves.py": "import os\n\n\ndef test_leaves(slmperf):\n    os._exit(0)\n"})
    done = act(used, hub)
    assert (done.failed, "without finished results" in done.summary) == ("Verdict", True)
    assert used.stored() == []


def test_two_runs_that_push_at_once_both_arrive(used: Project, hub: fakehub.Hub, tmp_path: Path) -> None:
    """The other run's push comes between our fetch and our push: git refuses ours, and it is made anew on top."""
    act(used, hub)
    hooks = used.remote / "hooks"
    rival = tmp_path / "rival"
    git("clone", "-q", "-b", "slmperf-baselines", used.remote.as_uri(), str(rival), cwd=tmp_path)
    (rival / "rival.json").write_text("{}")
    git("add", "rival.json", cwd=rival)
    git("commit", "-q", "-m", "rival", cwd=rival)
    marker = tmp_path / "pushed"
    # runs on the remote before it takes our push: the first time, the rival is quicker
    (hooks / "pre-receive").write_text(
        f"#!/bin/sh\n[ -e {marker} ] && exit 0\ntouch {marker}\n"
        f"unset GIT_DIR GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES\n"
        f"cd {rival} && git push -q origin slmperf-baselines\n"
    )
    (hooks / "pre-receive").chmod(0o755)
    done = act(used, hub, slowdown=0.001)
    assert done.failed is None, done.log
    assert marker.exists()
    assert "rival.json" in used.stored()
    assert git("log", "--oneline", "slmperf-baselines", cwd=used.remote).count("\n") == 3


def test_an_open_quote_is_named_with_its_input(used: Project, hub: fakehub.Hub) -> None:
    run = act(used, hub, args="-k 'batch")
    assert run.failed == "Measure"
    assert any('args: "-k \'batch" is not what a shell would understand' in line for line in run.annotations), run.log


def test_baselines_of_another_name_are_found_by_the_next_run(used: Project, hub: fakehub.Hub) -> None:
    args = "--slmperf-engine simulated -p no:cacheprovider --slmperf-baseline nightly"
    assert "1 new" in act(used, hub, args=args).summary
    assert all("/nightly/" in name for name in used.stored() if name.endswith(".json"))
    assert "1 same" in act(used, hub, args=args).summary


SET = """
import pytest

@pytest.mark.slmperf(settings={"overhead_ms": OVERHEAD})
def test_chat(slmperf):
    slmperf.offline(batch=8, input_len=16, output_len=16)
"""


def test_a_pull_request_is_compared_with_its_merge_base_and_needs_no_baseline(
    project: Project, hub: fakehub.Hub
) -> None:
    project.commit({"perf_tests/test_chat.py": SET.replace("OVERHEAD", "0.5"), "pytest.ini": "[pytest]\n"})
    project.commit({"README": "a change that concerns no engine"}, branch="docs")
    idle = act_on(project, hub, ("-b", "docs"), pull_request=7)
    assert idle.failed is None, idle.log
    assert idle.outputs["measure"]["exit-code"] == "0"
    assert "slmperf: nothing was measured" in idle.summary
    assert "nothing to compare in 1 performance test" in idle.summary
    assert "same" not in idle.summary.partition("nothing to compare")[0], "what was not measured is not called the same"
    assert "nothing to compare" in hub.comments[0]["body"]

    project.commit({"perf_tests/test_chat.py": SET.replace("OVERHEAD", "5.0")}, branch="slower")
    slower = act_on(project, hub, ("-b", "slower"), pull_request=8)
    assert slower.failed == "Verdict", slower.log
    assert slower.outputs["measure"]["exit-code"] == "1"
    (error,) = [line for line in slower.annotations if line.startswith("::error")]
    assert "file=perf_tests/test_chat.py" in error
    assert "regressed" in slower.summary
    assert "merge base" in slower.summary
    assert "overhead_ms" in slower.summary, "what changed is named"
    assert len(hub.comments) == 1, "a comment is kept up to date"
    assert "regressed" in hub.comments[0]["body"]
    assert project.stored() == []


def test_a_pull_request_without_history_falls_back_to_the_baselines_and_says_so(
    used: Project, hub: fakehub.Hub
) -> None:
    act(used, hub)
    used.commit({"README": "more"})
    done = act_on(used, hub, ("--depth", "1"), pull_request=7)
    assert done.failed is None, done.log
    assert any(line.startswith("::warning") and "fetch-depth: 0" in line for line in done.annotations), done.log
    assert "1 same" in done.summary
    asked = act_on(used, hub, ("--depth", "1"), pull_request=7, against="merge-base=release")
    assert asked.failed == "Verdict", asked.log
    assert "fetch-depth: 0" in asked.log
    assert "Nothing can be said about the performance" in asked.summary
