import os
import re
import resource
import shlex
import subprocess
import sys

import pytest

from pytest_slmperf.baselines.stores.files import FileStore
from pytest_slmperf.cli import main as cli
from pytest_slmperf.errors import SlmperfError

HEAVY = ("torch", "vllm", "numpy", "scipy", "altair", "pydantic", "jinja2", "pytest_benchmark", "pynvml")

CLI = "pytest_slmperf.cli"
PRINTING = [
    (CLI, "--help"),
    (CLI, "--version"),
    (CLI, "compare", "a.json", "a.json"),
    (CLI, "report", "a.json"),
    (CLI, "baselines", "list"),
    (CLI, "baselines", "show", "test"),
    (CLI, "baselines", "approve", "a.json", "--dry-run"),
    (CLI, "baselines", "prune", "--sessions", "1", "--dry-run"),
    (CLI, "history", "test_batch"),
    (CLI, "bisect", "--help"),
    (CLI, "export", "a.json", "--format", "csv"),
    (CLI, "frontier", "p.csv", "--max", "tput", "--min", "itl"),
    (CLI, "findings", "a.json"),
    (CLI, "import", "--help"),
    (CLI, "energy", "--json", "--", "true"),
    (CLI, "doctor"),
    (CLI, "mock-server", "--port", "0"),
    (CLI, "completion", "bash"),
    ("pytest_slmperf.contrib.roofline",),
]

# ``doctor`` looks at the machine's noise for a second: here for a moment.
QUICK_DOCTOR = """
import runpy
from pytest_slmperf.cli.commands import doctor
doctor.NOISE_S = 0.05
runpy.run_module("pytest_slmperf.cli", run_name="__main__", alter_sys=True)
"""


def python(words: tuple[str, ...]) -> list[str]:
    """The command that runs a module with these words in a process of its own."""
    program = ["-c", QUICK_DOCTOR] if words[:2] == (CLI, "doctor") else ["-m", words[0]]
    return [sys.executable, *program, *words[1:]]


def test_help_lists_the_fixed_commands_and_exit_codes(command):
    run = command("--help")
    assert run.code == 0
    for name in ("compare", "report", "frontier", "findings", "baselines", "history", "export", "doctor"):
        assert f"\n    {name}" in run.out
    assert "exit codes:" in run.out


COMMANDS = {parser.prog: parser for parser in cli.build_parser().walk()}


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
    groups = {path.rpartition(" ")[0] for path in COMMANDS}
    answers = COMMANDS.keys() - groups - {"slmperf completion", "slmperf mock-server"}  # a script and a server
    assert [path for path in sorted(answers) if "--json" not in COMMANDS[path].format_usage()] == []


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
    from pytest_slmperf.cli.commands import doctor

    def fail(_):
        raise SlmperfError("the device went away")

    monkeypatch.setattr(doctor, "run", fail)
    run = command("doctor")
    assert (run.code, run.err) == (3, "slmperf doctor: the device went away\n")


def test_interrupting_is_130(command, monkeypatch):
    from pytest_slmperf.cli.commands import doctor

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "run", interrupt)
    assert command("doctor").code == 130


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from pytest_slmperf.cli.main import build_parser; build_parser(); "
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
def test_nobody_who_reads_the_output_ends_every_command_quietly(words, tmp_path, make_result, make_results, write):
    """As with ``| head``: the code a shell gives a command that SIGPIPE ended, and no traceback."""
    write("a.json", make_results(make_result()))
    (tmp_path / "p.csv").write_text("max_num_seqs,tput,itl\n1,10,1\n2,19,2\n4,30,4\n")
    FileStore(tmp_path / "baselines").save("main", make_result(), make_results().session, make_results().machine)
    FileStore(tmp_path / "baselines").remember(make_result(), make_results().session, make_results().machine)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        run = subprocess.run(
            python(words), stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=60,
            env=os.environ | {"PYTHONUNBUFFERED": ""},  # unbuffered, argparse swallows the error of its --help
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (run.returncode, run.stderr) == (141, "")


def test_closed_standard_output_changes_no_exit_code(tmp_path):
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", CLI]
    for words, code in ((["--help"], 0), (["baselines", "list", "--json"], 0), (["compare", "a.json", "b.json"], 4)):
        run = subprocess.run([*closed, *words], capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert (run.returncode, "Traceback" in run.stderr) == (code, False), words


def test_a_full_disk_under_the_output_is_no_regression(tmp_path):
    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    with (tmp_path / "out.txt").open("w") as file:
        run = subprocess.run(
            [sys.executable, "-m", CLI, "baselines", "list"], stdout=file, stderr=subprocess.PIPE, text=True,
            cwd=tmp_path, timeout=60, preexec_fn=full,
        )  # fmt: skip
    assert run.returncode == 3
    assert re.fullmatch(r"slmperf: the output cannot be written: .+\n", run.stderr)


@pytest.mark.parametrize("words", [(CLI, "doctor"), ("pytest_slmperf.contrib.roofline",)], ids=" ".join)
def test_signs_that_the_terminal_lacks_are_written_plainer(words, tmp_path):
    """In the locale C Python's streams bear stray bytes (surrogateescape), and no sign beyond ASCII."""
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}  # tox sets the last
    run = subprocess.run(python(words), capture_output=True, cwd=tmp_path, timeout=60, env=os.environ | plain)
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout.isascii()


def test_no_subcommand_is_left_out_above():
    tried = {words[1] for words in PRINTING if words[0] == CLI}
    assert cli.subcommands().keys() <= tried


def test_a_folder_that_is_gone_is_told(command, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    run = command("baselines", "list")
    assert run.code == 4
    assert "the current folder is gone" in run.err
