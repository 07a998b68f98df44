"""The scripts that complete slmperf, in the shells themselves."""

import shutil
import subprocess

import pytest


@pytest.fixture
def script(command, tmp_path):
    def write(shell):
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed")
        path = tmp_path / f"completion.{shell}"
        path.write_text(command("completion", shell).out)
        return path

    return write


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    assert done.returncode == 0
    return sorted(line.split("\t")[0].split(":")[0] for line in done.stdout.split("\n") if line)


@pytest.fixture
def bash(script):
    path = script("bash")

    def complete(*words):
        line = " ".join(f"'{word}'" for word in words)
        ask = f"source {path}; COMP_WORDS=(slmperf {line}); COMP_CWORD={len(words)}; _slmperf"
        return run("bash", "-c", ask + """; printf '%s\\n' "${COMPREPLY[@]}" """)

    return complete


@pytest.fixture
def fish(script):
    path = script("fish")
    return lambda *words: run("fish", "--no-config", "-c", f"source {path}; complete -C 'slmperf {' '.join(words)}'")


@pytest.fixture
def zsh(script):
    path = script("zsh")
    # outside of its line editor zsh has no place to show what it found: the functions that would show it print it here
    shown = "_describe() { print -l -- ${(P)2} }; compadd() { shift; print -l -- $@ }; _files() { }; compdef() { }"

    def complete(*words):
        line = " ".join(f"'{word}'" for word in words)
        ask = f"{shown}; source {path}; words=(slmperf {line}); CURRENT=$#words; PREFIX=$words[-1]; _slmperf"
        found = run("zsh", "-f", "-c", ask)
        return [word for word in found if word.startswith(words[-1])]

    return complete


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_options_and_values(shell, request):
    complete = request.getfixturevalue(shell)
    assert complete("comp") == ["compare", "completion"]
    assert complete("baselines", "") == ["approve", "list", "prune", "rename", "show"]
    assert complete("compare", "--tol") == ["--tolerance"]
    assert complete("baselines", "approve", "--mode", "re") == ["replace"]
    assert complete("completion", "f") == ["fish"]


def test_bash_completes_files_where_a_file_is_wanted(script, tmp_path):
    (tmp_path / "results.json").write_text("")
    text = script("bash").read_text()
    assert "complete -o default -F _slmperf slmperf" in text


def test_other_shells_are_refused(command):
    assert command("completion", "cobol").code == 4
