"""``slmperf frontier``: Pareto set, knee and the advisor's pick of any table of points."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_slmperf.cli import output
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.text_out import json_text, printable
from pytest_slmperf.util import read_file
from pytest_slmperf.util.formatting import number, portion

if TYPE_CHECKING:
    from pytest_slmperf.frontier.advisor import Analysis
    from pytest_slmperf.frontier.points import MetricBound

_SLO = re.compile(r"^\s*(?P<name>.+?)\s*(?P<sign><=|>=|=|≤|≥)\s*(?P<bound>[^=<>≤≥]+?)\s*$")
EPILOG = """\
examples:
  slmperf frontier points.csv --max output_throughput --min itl_mean --key batch
  slmperf frontier points.csv --max output_throughput --min itl_mean --slo itl_mean=40 --json
  slmperf frontier points.csv --max output_throughput --min itl_mean --by device

exit codes: 0 done, 4 wrong usage or a file that cannot be read
"""


def add_parser(subparsers: Any) -> None:
    """Add ``frontier`` to the subcommands."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "frontier",
        help="Pareto set, knee and batch advice of a CSV of measured points",
        description=(
            "Reads one point per line and prints which points are Pareto-optimal, where throughput stops growing, and the "
            "batch to run. Points with preemptions and points with missing cells are dropped, with the reason."
        ),
        epilog=EPILOG,
    )
    parser.add_argument(
        "points", metavar="POINTS.csv", help="the table (comma, semicolon or tab); - reads standard input"
    )
    parser.add_argument(
        "--max", action="append", default=[], metavar="COLUMN", help="more is better; the first is the throughput"
    )
    parser.add_argument(
        "--min", action="append", default=[], metavar="COLUMN", help="less is better (latency, J/token)"
    )
    parser.add_argument("--key", default="max_num_seqs", metavar="COLUMN", help="the batch column [%(default)s]")
    parser.add_argument(
        "--slo",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="bound of the advisor: at most VALUE (at least, for a --max column; or say <= / >=)",
    )
    parser.add_argument(
        "--epsilon", default="0.1", metavar="SHARE", help="least share of perfect scaling [%(default)s]"
    )
    parser.add_argument(
        "--repeats", action="store_true", help="lines of one key are repeated measurements of one point"
    )
    parser.add_argument(
        "--by", metavar="COLUMN", help="a frontier for each value of COLUMN, for instance the device or the engine"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    analyses = _analyse(args)
    if args.by is not None:
        groups = [{args.by: value, **analysis.as_json()} for value, analysis in analyses.items()]
        form: Any = {"by": args.by, "groups": groups}
        text = "\n\n".join(
            f"{printable(f'{args.by} {value}')}\n{_text(analysis, args)}" for value, analysis in analyses.items()
        )
    else:
        form, text = analyses[None].as_json(), _text(analyses[None], args)
    output.say(json_text(form, indent=None) if args.json else text, finished=True)
    return 0


def _analyse(args: argparse.Namespace) -> dict[str | None, Analysis]:
    from pytest_slmperf.frontier.advisor import analyse
    from pytest_slmperf.frontier.point_table import read_groups
    from pytest_slmperf.frontier.points import Objective

    if not args.max or not args.min:
        raise InvalidInput("name at least one --max COLUMN (throughput) and one --min COLUMN (latency or energy)")
    goals = [Objective(name, "higher") for name in args.max] + [Objective(name, "lower") for name in args.min]
    slos = [_slo(text, args.max) for text in args.slo]
    epsilon = _number(args.epsilon, "--epsilon")
    tables = read_groups(
        _read(args.points),
        args.points,
        key=args.key,
        required=[goal.name for goal in goals],
        optional=[slo.name for slo in slos],
        repeats=args.repeats,
        by=args.by,
    )
    analyses = {}
    for value, table in tables.items():
        analysis = analyse(table.points, goals, slos=slos, epsilon=epsilon, dropped=table.dropped)
        analyses[value] = replace(analysis, notes=[*table.notes, *analysis.notes])
    return analyses


def _read(name: str) -> str:
    data = read_file.read(Path(name), read_file.MOST_TABLE)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{name}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error


def _slo(text: str, maxima: list[str]) -> MetricBound:
    from pytest_slmperf.frontier.points import MetricBound

    match = _SLO.match(text)
    if match is None:
        raise InvalidInput(f"--slo {text!r}: write COLUMN=VALUE, for instance --slo mean_itl_ms=30")
    name, sign = match["name"], match["sign"]
    higher = sign in (">=", "≥") or (sign == "=" and name in maxima)
    return MetricBound(name, _number(match["bound"], f"--slo {text!r}"), "higher" if higher else "lower")


def _number(text: str, option: str) -> float:
    import math

    try:
        value = float(text)
    except ValueError:
        raise InvalidInput(f"{option}: {text!r} is not a number") from None
    if not math.isfinite(value):
        raise InvalidInput(f"{option}: {text!r} is not a finite number")
    return value


def _text(analysis: Analysis, args: argparse.Namespace) -> str:
    from tabulate import tabulate

    names = [goal.name for goal in analysis.objectives]
    headers = [*map(printable, [args.key, *names]), "share of peak", "scaling", ""]
    peak = max((point.values[names[0]] for point in analysis.points), default=0.0)
    rows = []
    for index, (point, standing) in enumerate(zip(analysis.points, analysis.standings, strict=True)):
        marks = (
            []
            if standing == "frontier"
            else ["not distinguishable" if standing == "indistinguishable" else "dominated"]
        )
        if analysis.knee is not None and point is analysis.knee.point:
            marks.append("knee")
        if analysis.advice is not None and point is analysis.advice.point:
            marks.append("advised")
        of_peak = portion(point.values[names[0]] / peak) if peak > 0 else ""
        scaling = portion(share) if analysis.efficiency and (share := analysis.efficiency[index]) == share else ""
        rows.append([point.key, *(number(point.values[name]) for name in names), of_peak, scaling, ", ".join(marks)])
    # Names and keys come from a file and may contain anything.
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    lines = [tabulate(cells, headers=headers, disable_numparse=True, stralign="right")] if rows else []
    lines += ["", *map(printable, _sentences(analysis, args))]
    return "\n".join(lines)


def _sentences(analysis: Analysis, args: argparse.Namespace) -> list[str]:
    keys = ", ".join(str(key) for key in analysis.frontier) or "empty"
    lines = [f"frontier: {keys} ({len(analysis.optimal)} of {len(analysis.points)} points)"]
    if analysis.knee is not None:
        knee = analysis.knee
        inside = "" if knee.interior else ", the last point: more might still help"
        lines.append(f"knee:     {args.key} {knee.key} reaches {portion(knee.share_of_peak)} of the peak{inside}")
        if analysis.uncertainty is not None:
            sure = analysis.uncertainty
            lines.append(
                f"          {portion(sure.support)} of {sure.resamples} resamples agree; "
                f"{portion(sure.confidence)} lie in {sure.low:g} to {sure.high:g}"
            )
    if analysis.kneedle is not None:
        lines.append(
            f"kneedle:  {args.key} {analysis.kneedle.key} at {portion(analysis.kneedle.share_of_peak)} of the peak"
        )
    if analysis.hypervolume is not None:
        over = " × ".join(analysis.hypervolume.axes)
        lines.append(f"hypervolume: {number(analysis.hypervolume.volume)} over {over}, reference point: origin")
    if analysis.advice is not None:
        lines.append(f"advice:   {args.key} {analysis.advice.key}: {analysis.advice.reason}")
    elif analysis.efficiency:
        lines.append(
            f"advice:   none: no point keeps {' and '.join(args.slo) or 'the scaling bound'} with epsilon {args.epsilon}"
        )
    lines += [f"dropped:  {args.key} {row.key}: {row.reason}" for row in analysis.dropped]
    lines += [f"note:     {note}" for note in analysis.notes]
    return lines
