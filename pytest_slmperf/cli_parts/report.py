"""``slmperf report``: the HTML report, and pictures of its charts, from a results file or a session's journal."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_slmperf.cli_parts import shared

DESCRIPTION = """\
Writes the self-contained HTML report of a results file. After a crash there is no results file: give the session's
journal instead, .slmperf/journal/SESSION.jsonl; it holds every test that had ended.
"""
EPILOG = """\
examples:
  slmperf report .slmperf/results.json -o report.html
  slmperf report .slmperf/journal/2026-11-23T100000Z-1a2b3c.jsonl --results results.json
"""


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "report", help="write the HTML report of a results file", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="results file, or a journal (.jsonl)")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"), metavar="PATH", help="[%(default)s]")
    parser.add_argument("--results", type=Path, metavar="PATH", dest="rebuilt", help="also write a results file")
    shared.add_json(parser)


def run(args: argparse.Namespace) -> int:
    from pytest_slmperf.record import encode
    from pytest_slmperf.reports.html import write_report

    results = shared.read_results(args.results)
    write_report(results, args.output)
    written = {"report": str(args.output)}
    if args.rebuilt:
        shared.write_file(args.rebuilt, encode(results))
        written["results"] = str(args.rebuilt)
    if args.json:
        shared.print_json(written | {"tests": len(results.results)})
    else:
        for kind, path in written.items():
            print(f"{kind}: {shared.printable(path)}")
    return 0
