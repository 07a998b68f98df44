"""The wheel: what is in it, and that it works in an environment of its own, outside the repository."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST = """
import pytest

@pytest.mark.parametrize("batch", [1, 8])
def test_chat(slmperf, batch):
    slmperf.offline(batch=batch, input_len=16, output_len=16)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the wheel and what the wheel asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=True)
    interpreter = folder / "bin" / "python"
    done = subprocess.run(
        [str(interpreter), "-m", "pip", "install", "-q", "--disable-pip-version-check", str(wheel)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return interpreter


def run(command: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    kept = {key: text for key, text in os.environ.items() if not key.startswith(("PYTEST", "PYTHON", "SLMPERF"))}
    return subprocess.run(command, cwd=folder, env={**kept, **more}, capture_output=True, text=True, timeout=120)


def test_everything_the_package_needs_is_in_the_wheel(wheel: Path) -> None:
    known = subprocess.run(
        ["git", "ls-files", "pytest_slmperf", "templates"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    wanted = {name if name.startswith("pytest_slmperf") else f"pytest_slmperf/{name}" for name in known}
    names = set(zipfile.ZipFile(wheel).namelist())
    assert wanted - names == set()
    for kind in ("templates/", "engines/models/", "py.typed"):
        assert any(name.startswith(f"pytest_slmperf/{kind}") for name in names), kind
    assert not [name for name in names if name.split("/")[0] in ("tests", "perf_tests", "benchmarks", "docs")]


def test_no_link_of_the_index_page_leads_into_a_repository_that_it_does_not_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(files.read(name))
    assert metadata["Description-Content-Type"] == "text/markdown"
    page = metadata.get_payload()
    assert isinstance(page, str)
    targets = re.findall(r"\]\(([^)\s]*)", page)
    assert [target for target in targets if not target.startswith(("http://", "https://", "#"))] == []
    assert "- Tutorial: ten minutes, no GPU needed" in page
    assert "```shell\npip install tox && tox run -e perf-cpu\n```" in page


def test_a_users_suite_runs_and_the_report_is_written(python: Path, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TEST)
    command = [str(python), "-m", "pytest", "test_mine.py", "--slmperf", "--slmperf-engine", "simulated"]
    first = run([*command, "--slmperf-approve"], tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    page = (tmp_path / ".slmperf" / "report.html").read_text(encoding="utf-8")
    assert "test_chat[8]" in page
    assert sorted((tmp_path / "baselines").rglob("*.json"))
    slowed = run(command, tmp_path, SLMPERF_SIMULATED_SLOWDOWN="0.3")
    assert slowed.returncode == 1, slowed.stdout + slowed.stderr
    results = json.loads((tmp_path / ".slmperf" / "results.json").read_text())
    verdicts = {v["verdict"] for r in results["results"] for v in r["verdicts"] if v["metric"] == "output_throughput"}
    assert verdicts == {"regressed"}


def test_the_command_is_installed(python: Path, tmp_path: Path) -> None:
    done = run([str(python.parent / "slmperf"), "--help"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "compare" in done.stdout


def test_the_typed_package_says_so(python: Path, tmp_path: Path) -> None:
    done = run(
        [str(python), "-c", "import importlib.resources as r; print(r.files('pytest_slmperf') / 'py.typed')"], tmp_path
    )
    assert Path(done.stdout.strip()).is_file()
