"""Parts that subcommands share: common arguments, reading results, opening stores, writing files, printing."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pytest_slmperf import redaction
from pytest_slmperf.errors import BaselineError, InvalidInput, SlmperfError
from pytest_slmperf.reports.terminal import encoding
from pytest_slmperf.text_out import json_text, log_line
from pytest_slmperf.text_out import printable as printable  # subcommands take it from here

if TYPE_CHECKING:
    from pytest_slmperf.baselines.approve import Change
    from pytest_slmperf.baselines.store import Store
    from pytest_slmperf.model.result import Results


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON, for other programs")


def add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--baselines",
        default="baselines",
        metavar="DIR|URL",
        help="where baselines are kept: a folder, sqlite:///PATH or postgresql://HOST/DATABASE [%(default)s]",
    )


def open_store(place: str, option: str = "--baselines") -> Store:
    from pytest_slmperf.baselines.open import open_store

    return open_store(place, Path.cwd(), option)


def read_results(path: Path) -> Results:
    """A results file, or a session's journal (``.jsonl``) after a crash."""
    if os.path.isdir(path):
        raise InvalidInput(f"{path}: is a folder; give the results file, usually .slmperf/results.json")
    if path.suffix == ".jsonl":
        from pytest_slmperf.baselines import journal

        return journal.read(path)
    from pytest_slmperf.model.results_file import load_results

    return load_results(path)


def write_file(path: Path, data: bytes, ours: tuple[Sequence[bytes], str] | None = None) -> None:
    """Write the file at the path that the user gave, in one step. InvalidInput where it cannot be written.

    ``ours``: how a file that may be replaced is known, one of the constants of ``util.files``; None: any may.
    """
    from pytest_slmperf.util import files

    try:
        if ours is not None:
            files.refuse_other(path, *ours)
        files.replace(path, data)
    except BaselineError as error:
        raise InvalidInput(str(error)) from error


def code_of(changes: Sequence[Change]) -> int:
    """Exit code of saving results: 0 all saved, 2 some had nothing to save, 3 a history was not written, 4 none saved.

    With 2 the other results are saved: a script may accept it if a test may be too disturbed.
    """
    refused = sum(change.action == "refused" for change in changes)
    if refused and refused == len(changes):
        return 4
    return 3 if any(change.lost for change in changes) else 2 if refused else 0


def say(text: str = "", *, finished: bool = False, to: TextIO | None = None) -> None:
    """Print one line, in which nothing steers a terminal or commands a CI system: whatever a command prints comes here.

    ``finished``: rows that are made already, whose colours stay. ``to``: standard output without it.
    """
    stream = to or sys.stdout
    rows = text.split("\n") if finished else [printable(redaction.hide(text))]
    for row in rows:
        stream.write(log_line(row) + "\n")


def complain(text: str) -> None:
    """``say`` on standard error."""
    say(text, to=sys.stderr)


def print_json(value: Any) -> None:
    import msgspec

    plain = not encoding.is_unicode(sys.stdout.encoding)
    sys.stdout.write(json_text(redaction.hidden(msgspec.to_builtins(value)), ascii_only=plain) + "\n")


def print_table(rows: Sequence[Sequence[Any]], headers: Sequence[str], align: Sequence[str] | None = None) -> None:
    import tabulate

    cells = [[printable(str(cell)) for cell in row] for row in rows]
    text = tabulate.tabulate(cells, headers, tablefmt="simple", colalign=align if rows else None, disable_numparse=True)
    say(text, finished=True)


def terminal_width() -> int:
    return shutil.get_terminal_size((100, 24)).columns


def colour() -> bool:
    """Whether standard output shows colours: it is a terminal, and NO_COLOR is not set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def hooked(name: str, *, own_only: bool = False) -> list[Any]:
    """The results of the hook ``name`` by this package and the installed plugins, in the order of a pytest session.

    ``own_only``: only this package's, which works even if another package's plugin cannot be loaded.
    """
    from importlib.metadata import distribution

    from _pytest.config import get_config

    config = get_config()
    try:
        if own_only:
            for entry in distribution("pytest-slmperf").entry_points.select(group="pytest11"):
                config.pluginmanager.load_setuptools_entrypoints("pytest11", entry.name)
        else:
            config.pluginmanager.load_setuptools_entrypoints("pytest11")
            config.pluginmanager.consider_env()  # PYTEST_PLUGINS
    except Exception as error:  # a plugin of this environment is broken, so that pytest would not start either
        raise SlmperfError(
            f"a pytest plugin of this environment cannot be loaded: {error.__cause__ or error}"
        ) from error
    groups = getattr(config.hook, name)(config=config)
    return [item for part in reversed(groups) for item in part]
