"""``slmperf findings``: which of the published shapes of small-model serving hold in these results."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_slmperf.cli import output
from pytest_slmperf.errors import InvalidInput

if TYPE_CHECKING:
    from pytest_slmperf.contrib.findings.finding import Source
    from pytest_slmperf.model.result import Result

EPILOG = """\
examples:
  slmperf findings .slmperf/results.json
  slmperf findings opt-125m.json opt-1.3b.json --output findings.md

exit codes: 0 done, 4 wrong usage or a file that cannot be used. A statement that does not hold is a finding, no failure.
"""


def add_parser(subparsers: Any) -> None:
    """Add ``findings`` to the subcommands."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "findings",
        help="hold the published shapes of small-model serving against results",
        description=(
            "Reads results of one machine and prints a Markdown page: each statement on saturation, the frontier, KV cache, "
            "context, energy and replication (S1 to S13) holds, does not hold, cannot be told or was not measured, with the "
            "figures that say so. Results of several models on one machine may be given together."
        ),
        epilog=EPILOG,
    )
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULTS.json", help="results files or journals")
    parser.add_argument("-o", "--output", type=Path, metavar="PATH", help="write here instead of standard output")
    output.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 0; InvalidInput for files of different machines or without results."""
    from pytest_slmperf.contrib.findings.finding import Source
    from pytest_slmperf.contrib.findings.page import as_json, counts, findings_of, markdown

    sources, repeated = _distinct([Source(str(path), output.read_results(path)) for path in args.results])
    for line in repeated:
        output.complain(f"left out: {line}")
    for source in sources:
        if not source.results.results:
            raise InvalidInput(f"{source.name}: holds no results; measure first (pytest perf_tests/ --slmperf)")
    statements = findings_of(sources)
    if args.json and args.output is None:
        output.print_json(as_json(sources, statements) | {"left_out": repeated})
        return 0
    page = markdown(sources, statements)
    if args.output is None:
        output.say(page.rstrip("\n"), finished=True)
        return 0
    output.write_file(args.output, page.encode(), ((b"# Findings",), "page of findings"))
    summary = {"written": str(args.output), "counts": counts(statements), "left_out": repeated}
    if args.json:
        output.print_json(summary)
    else:
        output.say(
            f"{args.output}: " + ", ".join(f"{count} {name}" for name, count in counts(statements).items() if count)
        )
    return 0


def _distinct(sources: Sequence[Source]) -> tuple[list[Source], list[str]]:
    """The sources whose measurements no earlier source holds, and the names of the others, whose statements would be counted
    twice."""
    kept: list[Source] = []
    repeated: list[str] = []
    for source in sources:
        same = next((earlier for earlier in kept if _measured(earlier) == _measured(source)), None)
        if same is None:
            kept.append(source)
        else:
            repeated.append(f"{source.name}: the same results as in {same.name}")
    return kept, repeated


def _measured(source: Source) -> tuple[str, str, list[Result]]:
    """The content that makes two files the same measurement: a journal and its results file differ only in the session's
    end."""
    results = source.results
    return results.machine.fingerprint, results.session.id, results.results
