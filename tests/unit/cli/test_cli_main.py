import re
import shlex
import subprocess
import sys

import pytest

from pytest_slmperf import cli
from pytest_slmperf.cli_parts.completion import commands
from pytest_slmperf.errors import SlmperfError

HEAVY = ("torch", "vllm", "numpy", "scipy", "altair", "pydantic", "jinja2", "pytest_benchmark", "pynvml")


def test_help_lists_the_fixed_commands_and_exit_codes(command):
    run = command("--help")
    assert run.code == 0
    for name in ("compare", "report", "frontier", "findings", "baselines", "history", "export", "doctor"):
        assert f"\n    {name}" in run.out
    assert "exit codes:" in run.out


COMMANDS = {one.path: one for one in commands(cli.build_parser(), "slmperf")}


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_teaches_with_examples_that_parse(command, path, capsys):
    run = command(*path.split()[1:], "--help")
    assert run.code == 0
    _, _, examples = run.out.partition("examples:\n")
    lines = [line.strip() for line in examples.split("\n\n")[0].replace("\\\n", "").splitlines()]
    own = [line for line in lines if re.match(rf"(source <\()?{path}( |$)", line)]
    assert own, "no example of its own"
    for line in own:
        typed = shlex.split(line.removeprefix("source <(").replace(")", ""), comments=True)
        after = next((place for place, word in enumerate(typed) if word in ("|", "&&", ">")), None)
        cli.build_parser().parse_args(typed[1:after])  # SystemExit where it is wrong


def test_every_command_that_answers_does_so_in_json_too():
    answers = {
        path for path, one in COMMANDS.items()
        if path != "slmperf" and not any(other.startswith(f"{path} ") for other in COMMANDS)
    } - {"slmperf completion", "slmperf mock-server"}  # a script and a server  # fmt: skip
    assert [path for path in answers if not any("--json" in option.flags for option in COMMANDS[path].options)] == []


def test_help_is_filled_to_the_terminal(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = command("compare", "--help").out
    assert all(len(line) <= 80 for line in text.splitlines() if line and not line.startswith(" "))


@pytest.mark.parametrize("words", [[], ["no-such-command"], ["--no-such-option"]])
def test_wrong_usage_is_4(command, words):
    run = command(*words)
    assert run.code == 4
    assert "usage: slmperf" in run.err


def test_version(command):
    assert command("--version").out.startswith("pytest-slmperf 0.")


def test_other_failures_are_3_and_one_line(command, monkeypatch):
    from pytest_slmperf.cli_parts import doctor

    def fail(_):
        raise SlmperfError("the device went away")

    monkeypatch.setattr(doctor, "run", fail)
    run = command("doctor")
    assert (run.code, run.err) == (3, "slmperf doctor: the device went away\n")


def test_interrupting_is_130(command, monkeypatch):
    from pytest_slmperf.cli_parts import doctor

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "run", interrupt)
    assert command("doctor").code == 130


def test_help_imports_nothing_heavy():
    code = f"import sys; from pytest_slmperf import cli; cli.build_parser(); print([m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    command = f"{sys.executable} -m pytest_slmperf.cli baselines --help | head -c 1; echo ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert run.stderr == ""


def test_a_folder_that_is_gone_is_told(command, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    run = command("baselines", "list")
    assert run.code == 4
    assert "the current folder is gone" in run.err
