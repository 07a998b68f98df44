"""Every code block of the documentation, run as a reader would run it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support import doc_blocks as blocks

ROOT = Path(__file__).parents[2]
ANY_TEST = "def test_any(slmperf):\n    slmperf.offline(batch=1, input_len=8, output_len=8)\n"


def _workflow(text: str, where: str) -> None:
    """What a workflow in a page hands to our action or our reusable workflow must be known there."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    called = yaml.safe_load((ROOT / ".github/workflows/perf.yml").read_text())[True]["workflow_call"]["inputs"]
    for job in yaml.safe_load(text)["jobs"].values():
        for step in [job, *job.get("steps", [])]:
            used = step.get("uses", "")
            if used.startswith("OWNER/pytest-slmperf"):
                known = called if "/.github/workflows/" in used else action
                assert set(step.get("with", {})) <= set(known), where
            elif used:
                assert used in (ROOT / ".github/workflows/ci.yml").read_text(), f"{where}: {used} is not the pinned one"


def _gitlab(reader: blocks.Reader, text: str, where: str) -> None:
    """Run the jobs' scripts one after the other, as the stages order them."""
    for name, job in yaml.safe_load(text).items():
        exported = [f"export {name}={value}" for name, value in job.get("variables", {}).items()]
        script = "\n".join(["export CI_PIPELINE_ID=1 CI_JOB_ID=1", *exported, *job["script"]])
        done = reader.bash(script)
        assert done.returncode == 0, f"{where}, job {name}:\n{done.stdout}{done.stderr}"
        for path in job.get("artifacts", {}).get("paths", []):
            assert (reader.work / path).is_file(), f"{where}, job {name} does not write {path}"
        for path in job.get("artifacts", {}).get("reports", {}).values():
            assert (reader.work / path).is_file(), f"{where}, job {name} does not write {path}"


@pytest.mark.parametrize("page", blocks.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, tmp_path: Path, keep_vega: Callable[[Path], None]) -> None:
    keep_vega(tmp_path)  # the reader's home
    reader = blocks.Reader(tmp_path)
    for block in blocks.blocks(page):
        where = str(block)
        if block.file:
            reader.write(block.file, block.text)
        if block.language in ("yaml", "yml"):
            assert block.file, f"{where}: say in the first line which file this is"
            if block.file == ".gitlab-ci.yml":
                if not (reader.work / "perf_tests").is_dir():
                    reader.write(
                        "perf_tests/test_any.py",
                        "def test_any(slmperf):\n    slmperf.offline(batch=1, input_len=8, output_len=8)\n",
                    )
                _gitlab(reader, block.text, where)
            else:
                _workflow(block.text, where)
        elif block.language in ("toml", "ini"):
            tomllib.loads(block.text)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "shell":
            done = reader.bash(block.text)
            assert done.returncode == block.exit_code, f"{where}:\n{block.text}\n{done.stdout}{done.stderr}"
        elif block.language == "python":
            if block.file is None:
                done = reader.python(block.text)
                assert done.returncode == 0, f"{where}:\n{done.stdout}{done.stderr}"
            else:
                compile(block.text, block.file, "exec")
        else:
            assert block.language in blocks.OUTPUT, (
                f"{where}: what is {block.language!r}? tests/support/doc_blocks.py knows no such block"
            )


def test_links_between_pages_lead_somewhere() -> None:
    made = {"options", "markers", "metrics", "results", "command"}
    for page in blocks.pages():
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" in target or (Path(target).parent.name == "generated" and Path(target).stem in made):
                continue
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_the_readme_gives_the_two_commands_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [block.text.strip() for block in blocks.blocks(ROOT / "README.md") if block.language == "shell"]
    assert commands[:2] == ["pip install tox && tox run -e perf-cpu", "pip install tox && tox run -e tests"]
    assert f"grep -x '{commands[1]}' README.md" in (ROOT / ".ci/run").read_text()
    assert "(docs/pictures/report.png)" in readme
    assert (ROOT / "docs/pictures/report.png").is_file()


def test_the_walk_through_says_what_its_report_says() -> None:
    """The pictures come from the results file; the sentences beside them must be about the same run."""
    from pytest_slmperf.model.results_file import load_results
    from pytest_slmperf.reports.html.page import page
    from pytest_slmperf.reports.view import view_of

    text = (ROOT / "docs/how-to/read-the-report.md").read_text(encoding="utf-8")
    shown = page(view_of(load_results(ROOT / "docs/gallery/data/slowed.json")))
    first = shown.headlines[0]
    assert first.line.outcome == "regressed"
    low, _, high = first.line.interval.partition(" to ")
    for word in (
        f"`{first.test}`",
        first.line.label,
        first.line.percent_change,
        first.line.before_text.split()[0],
        first.line.value.split()[0],
    ):
        assert word in text, f"the walk-through does not say {word}"
    assert f"between {low} and {high}" in text


def test_the_gallery_holds_nothing_of_the_machine_it_was_measured_on() -> None:
    data = sorted((ROOT / "docs/gallery/data").glob("*.json"))
    assert data
    gallery = (ROOT / "docs/gallery/index.md").read_text(encoding="utf-8")
    for path in data:
        assert f'href="{path.stem}.html"' in gallery
        text = path.read_text(encoding="utf-8")
        assert len(text) < 600_000
        assert not re.findall(r"(?<![\w./~:])/(?:home|root|opt|tmp|work|usr|var|mnt|Users)/[^\s\"]*", text)
        assert '"vllm"' in text
        assert '"simulated"' not in text, "the gallery shows real runs"
