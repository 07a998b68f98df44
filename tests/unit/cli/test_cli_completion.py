"""The scripts that complete slmperf, in the shells themselves."""

import os
import shutil
import subprocess
import sys

import pytest


@pytest.fixture
def script(command, tmp_path):
    """Writes the script that a shell sources; beside it stands the ``slmperf`` that the script asks at TAB."""
    program = tmp_path / "bin/slmperf"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pytest_slmperf.cli "$@"\n')
    program.chmod(0o755)

    def write(shell):
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed")
        path = tmp_path / f"bin/completion.{shell}"
        path.write_text(command("completion", shell).out)
        return path

    return write


def run(folder, *words):
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)
    assert done.stderr == ""
    assert done.returncode == 0
    return sorted(line.split("\t")[0].split(":")[0].strip() for line in done.stdout.split("\n") if line)


@pytest.fixture
def bash(script):
    path = script("bash")

    def complete(*words):
        line = f"slmperf {' '.join(words)}"
        ask = f"source {path}; COMP_LINE='{line}'; COMP_POINT={len(line)}; _python_argcomplete slmperf"
        return run(path.parent, "bash", "-c", ask + """; printf '%s\\n' "${COMPREPLY[@]}" """)

    return complete


@pytest.fixture
def fish(script):
    path = script("fish")
    return lambda *words: run(
        path.parent, "fish", "--no-config", "-c", f"source {path}; complete -C 'slmperf {' '.join(words)}'"
    )


@pytest.fixture
def zsh(script):
    path = script("zsh")
    # outside of its line editor zsh has no place to show what it found: the functions that would show it print it here
    shown = "_describe() { print -l -- ${(P)2} }; compdef() { }"

    def complete(*words):
        line = f"slmperf {' '.join(words)}"
        ask = f"{shown}; source {path}; words=({line}); BUFFER='{line}'; CURSOR={len(line)}; _python_argcomplete"
        return run(path.parent, "zsh", "-f", "-c", ask)

    return complete


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_options_and_values(shell, request):
    complete = request.getfixturevalue(shell)
    assert complete("comp") == ["compare", "completion"]
    assert complete("baselines", "") == ["approve", "list", "prune", "rename", "show"]
    assert complete("compare", "--tol") == ["--tolerance"]
    assert complete("baselines", "approve", "--mode", "re") == ["replace"]
    assert complete("completion", "f") == ["fish"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_files_where_a_file_is_wanted(shell, request, tmp_path):
    complete = request.getfixturevalue(shell)  # it makes tmp_path the current folder
    (tmp_path / "results.json").write_text("")
    assert complete("report", "res") == ["results.json"]


def test_other_shells_are_refused(command):
    assert command("completion", "cobol").code == 4
