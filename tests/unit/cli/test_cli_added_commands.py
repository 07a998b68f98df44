"""Commands of other packages: the entry points ``pytest_slmperf.commands``."""

import sys

import pytest

HELLO = '''
"""A command of another package."""


def add_parser(subparsers):
    parser = subparsers.add_parser("hello", help="greet", epilog="examples:\\n  slmperf hello")
    parser.add_argument("--json", action="store_true")


def run(args):
    print("hello from another package")
    return 0
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs a package with these entry points: ``package("hello = hello_command")``."""

    def install(*entries):
        info = tmp_path / "site" / "hello-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join(["[pytest_slmperf.commands]", *entries]) + "\n")
        (tmp_path / "site" / "hello_command.py").write_text(HELLO)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))

    yield install
    sys.modules.pop("hello_command", None)


def test_a_command_of_another_package_runs_and_is_in_the_help(command, package):
    package("hello = hello_command")
    assert command("hello").out == "hello from another package\n"
    assert "\n    hello " in command("--help").out


def test_the_own_addons_are_in_the_help_of_every_install(command):
    text = command("--help").out
    for name in ("import", "findings", "bisect", "mock-server"):
        assert f"\n    {name}" in text


def test_a_command_that_cannot_be_loaded_is_named_and_costs_no_other(command, package):
    package("broken = no_such_module_of_hello", "hello = hello_command")
    run = command("hello")
    assert (run.code, run.out) == (0, "hello from another package\n")
    assert "no command 'broken': no_such_module_of_hello cannot be loaded" in run.err


def test_another_package_replaces_no_command_of_this_one(command, package):
    package("compare = hello_command")
    run = command("compare", "a.json", "b.json")
    assert run.code == 4
    assert "hello" not in run.out
