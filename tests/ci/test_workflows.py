"""What must hold in every workflow file, beside what actionlint and zizmor say in the lint environment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FILES = [*WORKFLOWS, ROOT / "action.yml"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_with_their_version(path: Path) -> None:
    uses = re.findall(r"^\s*(?:- )?uses: (\S+)(.*)$", path.read_text(), re.MULTILINE)
    assert uses
    for target, rest in uses:
        if not target.startswith("./"):
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", target), target
            assert re.match(r" # v\d+\.\d+\.\d+", rest), f"{target} does not say its version"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_permissions_are_given_per_job_only(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert "permissions" in job, name
        assert "timeout-minutes" in job, name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_code_of_a_fork_never_reaches_a_token_that_writes_or_a_runner_of_ours(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    triggers = workflow[True]  # YAML 1.1 reads the key `on` as a boolean
    assert "pull_request_target" not in triggers
    for name, job in workflow["jobs"].items():
        runs_measured_code = any(step.get("uses", "").startswith("./") for step in job["steps"])
        if runs_measured_code:
            assert job["permissions"] == {"contents": "read"}, name
            assert "head.repo.full_name == github.repository" in job["if"], name


def test_every_step_script_exists_and_every_script_is_a_step() -> None:
    folder = ROOT / ".github" / "action"
    named = set(re.findall(r"\.github/action/(\w+\.py)", (ROOT / "action.yml").read_text()))
    helpers = {"github.py", "baselines.py"}
    assert named | helpers == {path.name for path in folder.glob("*.py")}


def test_the_pictures_of_the_browser_tests_are_kept() -> None:
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["checks"]["steps"]
    given = next(step["env"]["SLMPERF_SCREENSHOTS"] for step in steps if "SLMPERF_SCREENSHOTS" in step.get("env", {}))
    kept = [step["with"]["path"] for step in steps if "upload-artifact" in step.get("uses", "")]
    assert given.removeprefix("${{ github.workspace }}/") in kept


def test_calls_for_several_runners_do_not_share_a_report_nor_cancel_each_other() -> None:
    text = (ROOT / ".github/workflows/perf.yml").read_text()
    workflow = yaml.safe_load(text)
    assert {"name", "timeout-minutes"} <= workflow[True]["workflow_call"]["inputs"].keys()
    group = workflow["jobs"]["measure"]["concurrency"]["group"]
    assert "inputs.name" in group
    assert "github.ref" in group  # GitHub keeps one waiting job a group
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    named = [step["with"]["name"] for step in steps if "name" in step.get("with", {})]
    named += [step["env"]["SLMPERF_NAME"] for step in steps if "SLMPERF_NAME" in step.get("env", {})]
    assert len(named) == 4
    assert set(named) == {"${{ inputs.name || 'slmperf' }}"}


def test_a_nightly_run_stores_too() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/perf.yml").read_text())
    assert "github.event_name == 'schedule' ||" in workflow["jobs"]["approve"]["if"]
