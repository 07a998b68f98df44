import subprocess
import sys

import pytest

from pytest_slmperf import cli
from pytest_slmperf.errors import SlmperfError

HEAVY = ("torch", "vllm", "numpy", "scipy", "altair", "pydantic", "jinja2", "pytest_benchmark", "pynvml")


def test_help_lists_the_fixed_commands_and_exit_codes(command):
    run = command("--help")
    assert run.code == 0
    for name in ("compare", "report", "frontier", "baselines", "history", "export", "doctor"):
        assert f"\n    {name}" in run.out
    assert "exit codes:" in run.out


@pytest.mark.parametrize("module", [module.__name__.rpartition(".")[2] for module in cli.subcommands()])
def test_every_command_explains_itself(command, module):
    run = command(module.rstrip("_").replace("_", "-"), "--help")
    assert run.code == 0
    assert len(run.out.splitlines()) > 5


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
