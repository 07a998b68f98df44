"""``slmperf report``: the HTML report, and images of its charts, from a results file or a session's journal."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_slmperf.cli import output

DESCRIPTION = """\
Writes the self-contained HTML report of a results file. After a crash there is no results file: give the session's
journal instead, .slmperf/journal/SESSION.jsonl; it holds every test that had ended.
"""
EPILOG = """\
examples:
  slmperf report .slmperf/results.json -o report.html
  slmperf report .slmperf/results.json --figures figures/ --figure-format svg
  slmperf report .slmperf/journal/2026-11-23T100000Z-1a2b3c.jsonl --results results.json
"""


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "report", help="write the HTML report of a results file", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="results file, or a journal (.jsonl)")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"), metavar="PATH",
                        help="the report, written whatever else is asked for [%(default)s]")  # fmt: skip
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="DIR",
        help="beside the report, draw every chart into this folder; no browser needed",
    )
    parser.add_argument(
        "--figure-format", action="append", choices=("svg", "png"), help="of the figures; may be given twice [both]"
    )
    parser.add_argument(
        "--markdown", type=Path, metavar="PATH", help="beside the report, write the summary as Markdown"
    )
    parser.add_argument(
        "--results", type=Path, metavar="PATH", dest="rebuilt", help="beside the report, write a results file"
    )
    output.add_json(parser)


def run(args: argparse.Namespace) -> int:
    from pytest_slmperf.model.results_file import encode
    from pytest_slmperf.reports.html.report import write_report
    from pytest_slmperf.util import files

    results = output.read_results(args.results)
    write_report(results, args.output)
    written: dict[str, Any] = {"report": str(args.output)}
    if args.figures:
        from pytest_slmperf.reports.html.static_figures import FORMATS, write_figures

        written["figures"] = [str(path) for path in write_figures(results, args.figures, args.figure_format or FORMATS)]
    if args.markdown:
        from pytest_slmperf.reports.markdown import job_summary

        output.write_file(args.markdown, job_summary(results).encode("utf-8", "replace"), files.SUMMARY)
        written["markdown"] = str(args.markdown)
    if args.rebuilt:
        output.write_file(args.rebuilt, encode(results), files.RESULTS)
        written["results"] = str(args.rebuilt)
    if args.json:
        output.print_json(written | {"tests": len(results.results)})
    else:
        for kind, paths in written.items():
            for path in [paths] if isinstance(paths, str) else paths:
                output.say(f"{kind}: {path}")
    return 0
