"""The ``slmperf`` command: finds its subcommands, runs one of them, and turns errors into exit codes.

Subcommands are the modules of ``cli/commands``, and those of add-ons and of other packages: the entry points of the group
``pytest_slmperf.commands``, whose name is the command's and whose module has ``add_parser(subparsers)`` and ``run(args)``.

Exit codes: 0 done (compare: nothing regressed), 1 regression, 2 no answer, 3 something failed while it worked,
4 wrong usage or a file that cannot be used, 130 interrupted, 141 nobody reads the output any more (``| head``).
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import pkgutil
import sys
import textwrap
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from pytest_slmperf import _former_paths, text_out
from pytest_slmperf.cli import commands as command_modules
from pytest_slmperf.cli import output
from pytest_slmperf.errors import BaselineError, InvalidInput, SlmperfError
from pytest_slmperf.reports.terminal.encoding import soften
from pytest_slmperf.util.stdout import quietly
from pytest_slmperf.util.version import __version__

FAILED, USAGE, INTERRUPTED = 3, 4, 130
TRACEBACK = "SLMPERF_TRACEBACK"  # set: an internal error shows its traceback
GROUP = "pytest_slmperf.commands"

# The order of --help: the most needed first. Other subcommands follow by name.
_ORDER = ("compare", "report", "baselines", "history", "bisect", "export", "frontier", "findings", "energy", "doctor")

EPILOG = """\
examples:
  pytest perf_tests/ --slmperf          # measure, and compare with the baseline
  slmperf compare old.json new.json     # did anything get slower?
  slmperf baselines approve results.json --reason "new engine release"
  slmperf doctor                        # what can be measured on this machine

exit codes: 0 done, 1 regression, 2 no answer (inconclusive, or no baseline), 3 failed while working, 4 wrong usage
"""


class Help(argparse.RawDescriptionHelpFormatter):
    """Paragraphs are filled to the terminal's width; lines that are indented (examples, lists) stay as written."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        rows: list[str] = []
        for raw, group in itertools.groupby(text.splitlines(), key=lambda line: not line or line.startswith(" ")):
            lines = list(group)
            rows += lines if raw else textwrap.wrap(" ".join(lines), width)
        return "\n".join(rows) + "\n"


class Parser(argparse.ArgumentParser):
    """argparse with exit code 4 for wrong usage, and with the layout of help texts as written."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", Help)
        super().__init__(*args, **kwargs)
        self._children: Mapping[str, Parser] = {}

    def add_subparsers(self, **kwargs: Any) -> Any:
        subparsers = super().add_subparsers(**kwargs)
        self._children = subparsers.choices
        return subparsers

    def walk(self) -> Iterator[Parser]:
        """This parser and those of its subcommands, depth first. ``prog`` of each: the command as typed."""
        yield self
        for child in self._children.values():
            yield from child.walk()

    def error(self, message: str) -> NoReturn:
        if not message.startswith("argument -"):  # a wrong value of an option needs no list of the options
            self.print_usage(sys.stderr)
        output.complain(f"{self.prog}: {message}")
        self.exit(USAGE)


def subcommands() -> dict[str, ModuleType]:
    """Command → module, in the order of the help. No other package can replace a command of this package."""
    modules = _added() | {
        info.name: importlib.import_module(f"{command_modules.__name__}.{info.name}")
        for info in pkgutil.iter_modules(command_modules.__path__)
    }
    known = {name: position for position, name in enumerate(_ORDER)}
    return {name: modules[name] for name in sorted(modules, key=lambda name: (known.get(name, len(known)), name))}


def _added() -> dict[str, ModuleType]:
    """The commands of add-ons and other packages, except those that cannot be loaded, which standard error names."""
    modules: dict[str, ModuleType] = {}
    for entry in entry_points(group=GROUP):
        try:
            modules[entry.name] = entry.load()
        except Exception as error:  # a faulty package may raise anything; the other commands still work
            output.complain(f"slmperf: no command {entry.name!r}: {entry.value} cannot be loaded ({error})")
    return modules


def build_parser() -> Parser:
    parser = Parser(
        prog="slmperf",
        description="Catch throughput, latency and energy regressions of small language models: the command-line side.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"pytest-slmperf {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name, module in subcommands().items():
        module.add_parser(commands)
        commands.choices[name].set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit code. An error that the user can fix is one line on standard error."""
    return quietly(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    soften(sys.stdout, sys.stderr)
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks at TAB: answered here, and nothing is run
        import argcomplete

        argcomplete.autocomplete(parser, always_complete_options=False)
    args = parser.parse_args(argv)
    try:
        _check_folder()
        code: int = args.run(args)
        return code
    except (InvalidInput, BaselineError) as error:
        return _say(args.command, error, USAGE)
    except SlmperfError as error:
        return _say(args.command, error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if error.filename is None:  # standard output that cannot be written, which whoever called looks after
            raise
        return _say(args.command, InvalidInput(f"{error.filename}: {error.strerror}"), USAGE)
    except Exception as error:  # Python's own exit code for it, 1, would mean a regression
        return _internal(args.command, error)


def _check_folder() -> None:
    """Refuse to work in a deleted folder, where relative paths are meaningless."""
    try:
        os.getcwd()
    except OSError as error:
        raise InvalidInput(f"the current folder is gone ({error.strerror}); change to another one") from error


def _say(command: str, error: SlmperfError, code: int) -> int:
    output.complain(f"slmperf {command}: {error}")
    return code


def _internal(command: str, error: Exception) -> int:
    """A fault of this package: where it happened in one line, or all of it where the environment asks for that."""
    if os.environ.get(TRACEBACK):
        output.say(text_out.message("".join(traceback.format_exception(error))), finished=True, to=sys.stderr)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    output.complain(
        f"slmperf {command}: internal error at {where}: {type(error).__name__}: {error}; please report it, with what "
        f"{TRACEBACK}=1 shows"
    )
    return FAILED


_former_paths.stand_in_for_function(__name__, main)  # the name was the function's until 0.1


if __name__ == "__main__":
    sys.exit(main())
