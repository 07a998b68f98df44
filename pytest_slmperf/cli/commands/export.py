"""``slmperf export``: results in another tool's format."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_slmperf.cli import output
from pytest_slmperf.errors import InvalidInput, SlmperfError

if TYPE_CHECKING:
    from pytest_slmperf.reports.exporters import Exporter

DESCRIPTION = """\
Formats:
  pytest-benchmark                 JSON that pytest-benchmark compare reads (seconds of a round)
  github-action-benchmark          JSON for its tool customBiggerIsBetter (throughput, goodput)
  github-action-benchmark-smaller  JSON for its tool customSmallerIsBetter (latency, energy)
  bencher                          Bencher Metric Format
  csv, parquet                     one row per test and metric (parquet needs pyarrow)
  openmetrics                      text that Prometheus reads
  mlflow                           logs one run per test to MLFLOW_TRACKING_URI (needs mlflow)
and whatever installed plugins add through the hook pytest_slmperf_exporters.
"""
EPILOG = """\
examples:
  slmperf export --format csv .slmperf/results.json -o results.csv
  slmperf export --format pytest-benchmark results.json -o bench.json
"""


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "export", help="write results in another tool's format", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="results file, or a journal (.jsonl)")
    parser.add_argument("--format", required=True, metavar="NAME", help="one of the formats above")
    parser.add_argument("-o", "--output", type=Path, metavar="PATH", help="write here instead of standard output")
    output.add_json(parser)


def run(args: argparse.Namespace) -> int:
    exporter = find(args.format)
    results = output.read_results(args.results)
    if args.json and args.output is None:
        raise InvalidInput("--json says what was written, so it needs -o PATH")
    try:
        data = exporter.export(results)
    except SlmperfError:
        raise
    except ValueError as error:
        raise InvalidInput(f"{args.results}: holds a number that {exporter.name} cannot hold ({error})") from error
    except Exception as error:  # an exporter may be anybody's code
        why = f"{type(error).__name__}: {error}"
        raise InvalidInput(f"{args.results}: the exporter {exporter.name} failed on it ({why})") from error
    if not isinstance(data, bytes):
        raise InvalidInput(f"the exporter {exporter.name!r} gave {type(data).__name__}, and must give bytes")
    from pytest_slmperf.util import files

    if args.output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return 0
    files.refuse_unlike(args.output, data, exporter.suffix)
    output.write_file(args.output, data)
    if args.json:
        output.print_json({"format": exporter.name, "path": str(args.output), "bytes": len(data)})
    return 0


def find(name: str) -> Exporter:
    """The exporter ``name``; other packages' exporters are loaded only if this package has none of that name."""
    known: dict[str, Exporter] = {}
    for own_only in (True, False):
        exporters = output.hooked("pytest_slmperf_exporters", own_only=own_only)
        known = {exporter.name: exporter for exporter in exporters} | known
        if name in known:
            return known[name]
    raise InvalidInput(f"--format {name!r} is not known; there are {', '.join(sorted(known))}")
