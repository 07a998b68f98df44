"""``slmperf history TEST``: a metric over sessions and commits, with its change points."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_slmperf.cli import output
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.util.formatting import counted, number, percent

if TYPE_CHECKING:
    from pytest_slmperf.baselines.trend import Trend

DESCRIPTION = """\
Prints a metric of one test over the sessions that were approved or ran in CI, and marks where its level changed.

This is for trends and for finding when something happened. It is slow: a change point shows after about five further
sessions. It is not the gate; pytest --slmperf is, and slmperf bisect finds the commit.
"""
EPILOG = """\
examples:
  slmperf history "test_batch[16]"
  slmperf history "test_batch[16]" --metric ttft_p99 --figures figures/
  slmperf history "test_batch[16]" --json | jq '.[].steps'
"""
CAUTION = "for trends only: a change point shows after about five further sessions; the gate is pytest --slmperf"


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "history", help="a metric over commits, with change points (for trends)",
        description=DESCRIPTION, epilog=EPILOG,
    )  # fmt: skip
    parser.add_argument("test", metavar="TEST", help="test id, or a part of it that names one test")
    parser.add_argument("--metric", metavar="NAME", help="[the first that gates]")
    parser.add_argument("--fingerprint", metavar="NAME", help="only systems whose fingerprint begins so")
    parser.add_argument("--last", type=int, metavar="N", help="print the newest N sessions only")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="draw the history as SVG and PNG into this folder")
    output.add_store(parser)
    output.add_json(parser)


def run(args: argparse.Namespace) -> int:
    from pytest_slmperf.baselines import trend

    if args.last is not None and args.last < 1:
        raise InvalidInput(f"--last must be at least 1, not {args.last}")
    store = output.open_store(args.baselines)
    trends = []
    for fingerprint, test in trend.find(store, args.test, args.fingerprint):
        names = trend.metrics_of(store, fingerprint, test)
        if not names or (args.metric and args.metric not in names):
            continue
        trends.append(trend.trend(store, fingerprint, test, args.metric or names[0]))
    if not trends:
        wanted = f"metric {args.metric!r}" if args.metric else "reading: no session of it kept a round"
        raise InvalidInput(f"the history of {args.test!r} holds no {wanted}")
    figures = _draw(trends, args.figures) if args.figures else []
    if args.json:
        output.print_json([dataclasses.asdict(series) | {"caution": CAUTION} for series in trends])
        return 0
    for series in trends:
        _show(series, args.last)
    for path in figures:
        output.say(f"figure: {path!s}")
    output.say(CAUTION)
    return 0


def _show(trend: Trend, last: int | None) -> None:
    output.say(f"{trend.test}  {trend.metric}{f' in {trend.unit}' if trend.unit not in ('', '1') else ''}")
    output.say(trend.fingerprint)
    steps = {step.index: step for step in trend.steps or []}
    rows = []
    previous = None
    for index, point in enumerate(trend.points):
        step = steps.get(index)
        mark = ""
        if step is not None:
            word = {True: "worse", False: "better", None: "changed"}[step.worse]
            mark = f"◀ {word} from here: {percent(step.change)} (p = {step.p_value:.1g})"
        rows.append(
            [
                point.started_at[:16].replace("T", " "),
                (point.commit or "–")[:10] + ("+" if point.dirty else ""),
                point.engine_version or "–",
                point.launches,
                number(point.value),
                "" if previous is None else percent(point.value / previous - 1) if previous else "–",
                "approved" if point.approved else "",
                mark,
            ]
        )
        previous = point.value
    headers = ["session", "commit", "engine", "launches", "value", "change", "", "level"]
    align = ["left", "left", "left", "right", "right", "right", "left", "left"]
    output.print_table(rows[-last:] if last else rows, headers, align)
    if trend.left_out:
        output.say(f"{counted(trend.left_out, 'older session')} did other work: left out")
    if trend.otherwise_metered:
        output.say(
            f"{counted(trend.otherwise_metered, 'session')} with energy counted by another meter, scope or set of devices: "
            "left out"
        )
    if trend.untold:
        output.say(
            f"{counted(trend.untold, 'older session')} without a word on what counted the energy: a step among them may be "
            "the meter's"
        )
    if trend.note:
        output.say(trend.note)
    output.say()


def _draw(trends: list[Trend], folder: Path) -> list[Path]:
    """Images of the histories, with the report's charts."""
    from pytest_slmperf.model.charts import Charts
    from pytest_slmperf.model.result import Engine, Machine, Result, Results, Session
    from pytest_slmperf.reports.html.static_figures import write_figures

    engine = Engine(name="history", version="", model="", weights="", device="")
    results = [
        Result(
            id=trend.test,
            scenario={"kind": "history", "system": trend.fingerprint},
            engine=engine,
            charts=Charts(history={trend.metric: trend.chart()}),
        )
        for trend in trends
    ]
    session = Session(id="history", started_at="", plugin_version="")
    return write_figures(Results(session=session, machine=Machine(fingerprint=""), results=results), folder)
