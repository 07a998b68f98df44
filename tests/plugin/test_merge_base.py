"""--slmperf-against merge-base, on throw-away repositories with real git, real pip and packages of a few lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.throwaway import Project, git, wheel

SUITE = """
import pytest

@pytest.mark.slmperf(settings={"slowdown": 0.0})
@pytest.mark.parametrize("batch", [1, 8])
def test_chat(slmperf, batch):
    slmperf.offline(batch=batch, input_len=16, output_len=16)

def test_old(slmperf):
    slmperf.offline(batch=2, input_len=16, output_len=16)
"""
INI = "[pytest]\nslmperf_engine = simulated\nslmperf_against = merge-base\n"
FIRST = {"perf_tests/test_chat.py": SUITE, "pytest.ini": INI, ".gitignore": ".slmperf/\n__pycache__/\n"}


class Branch:
    """A branch of a throw-away repository, on which pytest is run."""

    def __init__(self, project: Project, scratch: Path) -> None:
        self.project, self.folder, self.scratch = project, project.workspace, scratch
        self.environment = {name: text for name, text in os.environ.items() if not name.startswith(("GITHUB_", "CI"))}
        self.environment |= {"XDG_CACHE_HOME": str(scratch / "cache"), "GIT_CONFIG_GLOBAL": os.devnull}

    def start(self, files: dict[str, str]) -> None:
        """The first commit on main, and a branch from it."""
        self.project.commit(files)
        git("checkout", "-q", "-b", "change", cwd=self.folder)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def pytest(self, *options: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        plugins = [part for name in ("cacheprovider", "hypothesispytest", "anyio") for part in ("-p", f"no:{name}")]
        command = [sys.executable, "-m", "pytest", *plugins, "--slmperf", *options, "perf_tests"]
        return subprocess.run(
            command, cwd=cwd or self.folder, env=self.environment, capture_output=True, text=True, timeout=300
        )

    @property
    def results(self) -> dict[str, Any]:
        written: dict[str, Any] = json.loads((self.folder / ".slmperf/results.json").read_text())
        return written


@pytest.fixture
def branch(project: Project, tmp_path: Path) -> Branch:
    return Branch(project, tmp_path)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "repository")


def words(text: str) -> str:
    """The text on one line, as it was before it was wrapped."""
    return " ".join(text.split())


def verdicts(results: dict[str, Any]) -> dict[str, str]:
    return {entry["id"].rpartition("::")[2]: entry["verdicts"][0]["verdict"] for entry in results["results"]}


def test_what_is_unchanged_is_skipped_and_called_neither_same_nor_failed(branch: Branch) -> None:
    branch.start(FIRST)
    branch.write("README", "a change that concerns no engine")
    branch.write(
        "perf_tests/test_chat.py",
        "# a comment\n" + SUITE.replace("test_old(slmperf):", "test_old(slmperf):\n    'Says.'"),
    )
    done = branch.pytest("-rs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 skipped" in done.stdout
    commit = git("rev-parse", "main", cwd=branch.folder)[:10]
    assert f"duet against the merge base {commit} of main" in words(done.stdout).replace("origin/", "")
    assert "slmperf: nothing was measured" in done.stdout
    assert "nothing to compare in 3 performance tests" in words(done.stdout)
    assert branch.results["results"] == []
    assert branch.results["session"]["finished_at"]
    assert branch.results["session"]["mode"] == "duet"
    assert git("worktree", "list", cwd=branch.folder).count("\n") == 1
    assert not list((branch.scratch / "cache").rglob("tree"))


def test_a_slower_setting_new_removed_and_changed_tests(branch: Branch) -> None:
    """In the working tree only: what is under test need not be committed."""
    branch.start(FIRST)
    slower = SUITE.replace('"slowdown": 0.0', '"slowdown": 0.3').replace("test_old", "test_added")
    branch.write("perf_tests/test_chat.py", slower)
    done = branch.pytest()
    assert done.returncode == 1, done.stdout + done.stderr
    results = branch.results
    assert verdicts(results) == {"test_chat[1]": "regressed", "test_chat[8]": "regressed", "test_added": "new"}
    (first, *_) = results["results"]
    assert first["verdicts"][0]["change"] == pytest.approx(1 / 1.3 - 1, rel=0.01)
    assert first["baseline"]["commit"] == git("rev-parse", "main", cwd=branch.folder).strip()
    assert "merge base" in first["verdicts"][0]["baseline"]
    assert {launch["side"] for launch in first["launches"]} == {"baseline", "candidate"}
    text = words(done.stdout)
    assert "removed since the merge base" in text
    assert "test_chat.py::test_old" in text
    assert "has no such test" in text
    assert "slmperf baselines approve" not in text, (
        "an approval would change nothing that a merge base is compared with"
    )


def test_a_changed_body_has_nothing_to_be_compared_with(branch: Branch) -> None:
    branch.start(FIRST)
    branch.write("perf_tests/test_chat.py", SUITE.replace("batch=2", "batch=3"))
    done = branch.pytest()
    assert done.returncode == 0, done.stdout + done.stderr
    assert {*verdicts(branch.results).values()} == {"new"}
    assert "the test's code changed since the merge base" in words(done.stdout)


def test_the_ini_of_each_commit_names_its_engine_and_the_command_line_both(branch: Branch) -> None:
    branch.start(FIRST | {"perf_tests/test_chat.py": SUITE.replace('settings={"slowdown": 0.0}', "rounds=5")})
    branch.write("pytest.ini", INI + "slmperf_set = slowdown=0.3\n")
    done = branch.pytest("-k", "old")
    assert done.returncode == 1, done.stdout + done.stderr
    assert verdicts(branch.results) == {"test_old": "regressed"}
    done = branch.pytest("--slmperf-set", "slowdown=0.1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 skipped" in done.stdout


def test_each_side_serves_its_own_model_folder(branch: Branch) -> None:
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config |= {"num_key_value_heads": 4, "intermediate_size": 128, "vocab_size": 1000, "max_position_embeddings": 2048}
    small, large = json.dumps(config), json.dumps(config | {"num_hidden_layers": 3})
    branch.start(FIRST | {"models/mine/config.json": small})
    done = branch.pytest("--slmperf-model", "models/mine")
    assert "3 skipped" in done.stdout, done.stdout + done.stderr
    branch.write("models/mine/config.json", large)
    done = branch.pytest("--slmperf-model", "models/mine", "-k", "old", "--slmperf-launches", "1")
    (entry,) = branch.results["results"]
    assert entry["verdicts"][0]["change"] != 0, "one layer more takes longer"
    said = "the files in the model's folder models/mine are not those of the merge base"
    assert any(said in note for note in entry["notes"])


def test_a_base_without_performance_tests_makes_every_test_new(branch: Branch) -> None:
    branch.start({"README": "", "pytest.ini": INI, ".gitignore": ".slmperf/\n"})
    branch.write("perf_tests/test_chat.py", SUITE)
    done = branch.pytest()
    assert done.returncode == 0, done.stdout + done.stderr
    assert {*verdicts(branch.results).values()} == {"new"}
    assert "has no performance test here, so every test is new" in words(done.stdout)
    assert branch.pytest("--slmperf-fail-on", "inconclusive").returncode == 1


def test_workers_of_xdist_compare_too(branch: Branch) -> None:
    branch.start(FIRST)
    branch.write("perf_tests/test_chat.py", SUITE.replace('"slowdown": 0.0', '"slowdown": 0.3'))
    done = branch.pytest("-n", "2")
    assert done.returncode == 1, done.stdout + done.stderr
    assert verdicts(branch.results) == {"test_chat[1]": "regressed", "test_chat[8]": "regressed"}
    assert "1 skipped" in done.stdout
    assert branch.results["session"]["against"].startswith("merge base")
    branch.write("perf_tests/test_chat.py", SUITE)
    done = branch.pytest("-n", "2")
    assert (done.returncode, "3 skipped" in done.stdout) == (0, True), done.stdout + done.stderr
    assert branch.results["results"] == []
    assert words(done.stdout).count("nothing to compare in 3 performance tests") == 1


# --- another environment: an engine that is a package ------------------------------------------------------------------

WORKER = """
import time
import tiny
import slmperf_worker_tools as tools

class Engine:
    def start(self):
        return {"version": tiny.VERSION, "device": "cpu", "weights": "dummy", "t_first_served": time.monotonic()}

    def generate(self, batch, input_len, output_len, seed=0, ignore_eos=True, start_at=None):
        start = time.monotonic()
        time.sleep(output_len * tiny.PAUSE_S)
        return {"t_start": start, "t_end": time.monotonic(), "n_in": batch * input_len, "n_out": batch * output_len,
                "completed": batch, "requests": [[start, start, time.monotonic(), input_len, output_len]] * batch,
                "evidence": tools.Usage().delta()}

    def reset_caches(self):
        return {}

def create(spec, report):
    return Engine()
"""
ADAPTER = """
from dataclasses import replace
from pathlib import Path
from pytest_slmperf import EngineAdapter, EngineProcess, EngineTraits

class Tiny(EngineAdapter):
    name = "tiny"
    traits = EngineTraits(simulated=True)  # waits for no other session that measures on this machine

    def resolve(self, spec):
        return replace(spec, weights="dummy", device="cpu")

    def launch(self, spec, *, log_path, progress, timeout_s=60.0):
        engine = EngineProcess(spec, Path(__file__).with_name("worker.py"), log_path, python=spec.python)
        engine.start(spec.as_dict(), progress, timeout_s)
        return engine

def pytest_slmperf_engines(config):
    return [Tiny()]
"""
TINY = {
    "perf_tests/test_chat.py": "def test_chat(slmperf):\n    slmperf.offline(batch=1, input_len=8, output_len=8)\n",
    "perf_tests/conftest.py": ADAPTER,
    "perf_tests/worker.py": WORKER,
    "pytest.ini": "[pytest]\nslmperf_engine = tiny\n",
    ".gitignore": ".slmperf/\n__pycache__/\n",
}


@pytest.fixture
def tiny(branch: Branch, tmp_path: Path) -> Branch:
    """A branch on which requirements.txt asks for tiny 2.0, installed in ``head``; main asks for 1.0, which is faster."""
    wheels = tmp_path / "wheels"
    wheel(wheels, "1.0", 0.002)
    second = wheel(wheels, "2.0", 0.004)
    venv.create(tmp_path / "head", with_pip=False)
    (packages,) = (tmp_path / "head/lib").glob("python*/site-packages")
    zipfile.ZipFile(second).extractall(packages)
    where = f"--no-index\n--find-links {wheels}\n"
    branch.start(TINY | {"requirements.txt": f"{where}tiny==1.0\n"})
    branch.write("requirements.txt", f"{where}tiny==2.0  # slower\n")
    return branch


def with_head(branch: Branch, *options: str) -> subprocess.CompletedProcess[str]:
    python = branch.scratch / "head/bin/python"
    return branch.pytest("--slmperf-against", "merge-base=main", f"--slmperf-python={python}", *options)


def test_a_changed_requirement_is_measured_against_the_former_one(tiny: Branch) -> None:
    done = with_head(tiny)
    assert done.returncode == 1, done.stdout + done.stderr
    assert verdicts(tiny.results) == {"test_chat": "regressed"}
    (entry,) = tiny.results["results"]
    (version,) = [row for row in entry["differences"] if row["what"] == "engine version"]
    assert (version["baseline"], version["candidate"]) == ("1.0", "2.0")
    assert "building the environment of the merge base" in done.stdout
    assert "installed from requirements.txt of that commit" in words(done.stdout)
    again = with_head(tiny, "--slmperf-max-launches", "2")
    assert "building the environment" not in again.stdout, "it is kept"
    tiny.write("requirements.txt", git("show", "main:requirements.txt", cwd=tiny.folder))
    same = with_head(tiny)
    assert (same.returncode, "1 skipped" in same.stdout) == (0, True), same.stdout + same.stderr


def test_an_interpreter_that_is_not_what_the_checkout_asks_for_is_refused(tiny: Branch) -> None:
    """Else both sides could be the same engine, and the verdict green."""
    done = tiny.pytest("--slmperf-against", "merge-base=main")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert "requirements.txt of this checkout asks for tiny==2.0, which this interpreter lacks: run" in done.stderr
    assert "pip install -r requirements.txt" in done.stderr


def test_an_environment_that_cannot_be_built_shows_pips_last_lines(tiny: Branch) -> None:
    git("checkout", "-q", "main", cwd=tiny.folder)
    tiny.project.commit({"requirements.txt": "--no-index\ntiny==9.0\n"})
    git("checkout", "-q", "-b", "other", cwd=tiny.folder)
    tiny.write("requirements.txt", "--no-index\ntiny==2.0\n")
    done = with_head(tiny)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert "the environment of the merge base cannot be built from requirements.txt" in done.stderr
    assert "No matching distribution found for tiny==9.0" in done.stderr
    assert "No matching distribution" in (tiny.folder / ".slmperf/logs/merge-base-install.log").read_text()
    assert not list((tiny.scratch / "cache").rglob("pyvenv.cfg")), "nothing half built is left"


def test_an_environment_without_the_engine_is_named_with_the_setting(tiny: Branch) -> None:
    """requirements.txt is another program's: it says nothing of the engine vllm."""
    tiny.write(
        "perf_tests/test_chat.py", "def test_chat(slmperf):\n    slmperf.offline(batch=1, input_len=8, output_len=9)\n"
    )
    done = with_head(tiny, "--slmperf-engine", "transformers")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    assert "name it in slmperf_install" in done.stderr
    assert "installed from requirements.txt of that commit" in done.stderr


def test_install_none_and_other_words(tiny: Branch) -> None:
    done = with_head(tiny, "--slmperf-install", "none")
    assert (done.returncode, "1 skipped" in done.stdout) == (0, True), done.stdout + done.stderr
    done = with_head(tiny, "--slmperf-install=-r other.txt")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "slmperf_install: there is no other.txt" in done.stderr


def test_the_projects_own_code_in_this_environment_is_no_silent_part_of_it(branch: Branch) -> None:
    """Installed by ``pip install -e .``: its code is on both sides, so that a slower one would be skipped unseen."""
    branch.start(FIRST | {"requirements.txt": "msgspec", "shop.py": ""})
    info = branch.scratch / "packages/shop-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1\n")
    (info / "direct_url.json").write_text(json.dumps({"url": branch.folder.as_uri(), "dir_info": {"editable": True}}))
    branch.environment["PYTHONPATH"] = f"{info.parent}{os.pathsep}{branch.environment.get('PYTHONPATH', '')}"
    branch.write("shop.py", "slower = True")
    done = branch.pytest()
    assert (done.returncode, "3 skipped" in done.stdout) == (0, True), done.stdout + done.stderr
    assert "this checkout's shop included: a change of its code is not compared unless slmperf_install" in words(
        done.stdout
    )


# --- what cannot be compared -------------------------------------------------------------------------------------------


def test_a_folder_that_is_no_checkout(branch: Branch, tmp_path: Path) -> None:
    for name, text in FIRST.items():
        path = tmp_path / "plain" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    branch.environment["GIT_CEILING_DIRECTORIES"] = str(tmp_path)
    done = branch.pytest(cwd=tmp_path / "plain")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "plain is no git checkout; run it in one, or compare with a baseline" in done.stderr


def test_a_shallow_clone_is_told_how_to_get_its_history(branch: Branch, tmp_path: Path) -> None:
    branch.start(FIRST)
    branch.write("README", "more")
    git("add", "-A", cwd=branch.folder)
    git("commit", "-q", "-m", "more", cwd=branch.folder)
    git("push", "-q", "origin", "change", cwd=branch.folder)
    remote = branch.project.remote.as_uri()
    git("clone", "-q", "--depth", "1", "--branch", "change", remote, str(tmp_path / "shallow"), cwd=tmp_path)
    branch.environment["GITHUB_BASE_REF"] = "main"
    done = branch.pytest(cwd=tmp_path / "shallow")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert "there is no origin/main here" in done.stderr
    assert "fetch-depth: 0" in done.stderr


def test_a_branch_that_does_not_exist(branch: Branch) -> None:
    branch.start(FIRST)
    done = branch.pytest("--slmperf-against", "merge-base=mian")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "merge-base: there is no mian here: fetch it (git fetch origin), or name another" in done.stderr


def test_tests_of_the_base_that_cannot_be_collected(branch: Branch) -> None:
    branch.start(FIRST | {"perf_tests/test_chat.py": "import no_such_module\n" + SUITE})
    branch.write("perf_tests/test_chat.py", SUITE)
    done = branch.pytest()
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert "the performance tests of the merge base" in done.stderr
    assert "No module named 'no_such_module'" in done.stderr
    assert "no_such_module" in (branch.folder / ".slmperf/logs/merge-base-tests.log").read_text()
