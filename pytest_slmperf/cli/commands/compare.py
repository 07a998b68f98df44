"""``slmperf compare BASE CANDIDATE``: did anything get worse between two results files, or two folders of baselines?"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_slmperf.cli import output
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.defaults import ALPHA

if TYPE_CHECKING:
    from pytest_slmperf.measuring.offline_comparison import Outcome, Side
    from pytest_slmperf.model.result import Results
    from pytest_slmperf.model.verdict import Difference

DESCRIPTION = """\
Compares two sides, launch by launch, with the rule that a pytest session uses. A side is a results file
(--slmperf-json), a session's journal, or a folder or database of baselines. Only what was measured on the same
hardware, driver, engine and weights with the same work is compared; everything else is named.

Nothing can be measured again here, so a suspicion is not confirmed by fresh launches: for a gate, run pytest.
"""
EPILOG = """\
examples:
  slmperf compare main.json branch.json
  slmperf compare baselines/ results.json --baseline main
  slmperf compare old.json new.json --metric ttft_p99 --limit 0.10
  slmperf compare old.json new.json --json | jq '.results[] | select(.verdict == "regressed") | .id'

exit codes: 0 nothing regressed, 1 something regressed, 2 no answer for at least one metric (inconclusive,
incomparable, or no baseline), 4 wrong usage or an unusable file
"""


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "compare",
        help="compare two results files or baselines; exit code 1 on a regression",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("base", metavar="BASE", help="results file, or folder or URL of baselines")
    parser.add_argument("candidate", metavar="CANDIDATE", help="the same, for the side that may have got worse")
    parser.add_argument(
        "--baseline", default="main", metavar="NAME", help="which baseline of a folder or URL [%(default)s]"
    )
    parser.add_argument(
        "--metric", action="append", default=[], metavar="NAME", help="judge this metric instead of those that gate"
    )
    parser.add_argument("--tolerance", type=float, metavar="SHARE", help="up to this, nothing is flagged (0.01 = 1 %%)")
    parser.add_argument("--limit", type=float, metavar="SHARE", help="this much worse must not pass (0.05 = 5 %%)")
    parser.add_argument(
        "--alpha", type=float, default=ALPHA, metavar="P", help="chance of any false alarm [%(default)s]"
    )
    parser.add_argument(
        "--across",
        action="append",
        default=[],
        metavar="PART,…",
        help="compare although these parts differ: driver, gpus, cpu, cores",
    )
    parser.add_argument("-o", "--html", type=Path, metavar="PATH", help="also write an HTML report of the comparison")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="more metrics, intervals and differences")
    output.add_json(parser)


def run(args: argparse.Namespace) -> int:
    from pytest_slmperf.measuring.offline_comparison import Rules, compare

    base, _ = open_side(args.base, args.baseline)
    candidate, results = open_side(args.candidate, args.baseline)
    rules = Rules(tuple(args.metric), args.tolerance, args.limit, args.alpha, tuple(args.across))
    outcome = compare(base, candidate, rules)
    whole = as_results(outcome, results)
    if args.html:
        from pytest_slmperf.measuring.sides import stored_side
        from pytest_slmperf.reports.html.report import write_report

        for test in outcome.compared:
            if test.match.baseline is not None:
                test.result.baseline = stored_side(test.match)
        write_report(whole, args.html)
    if args.json:
        output.print_json(summary(outcome, base, candidate, rules.alpha))
    else:
        show(outcome, whole, base, args.verbose)
    return outcome.exit_code


def open_side(place: str, name: str) -> tuple[Side, Results | None]:
    """The side at ``place``, and the whole results if it is a results file."""
    from pytest_slmperf.measuring.offline_comparison import side_of_results, side_of_store

    if "://" not in place and not os.path.isdir(place):
        results = output.read_results(Path(place))
        if not results.results:
            raise InvalidInput(f"{place}: holds no results, so there is nothing to compare")
        return side_of_results(place, results), results
    return side_of_store(output.open_store(place, "what to compare"), name), None


def as_results(outcome: Outcome, candidate: Results | None) -> Results:
    """The candidate's results with the verdicts of this comparison, for the report."""
    from pytest_slmperf.model.result import Machine, Results, Session

    if candidate is None:
        launches = [test.launches for test in outcome.compared if test.launches is not None]
        machine = launches[0].machine if launches else Machine(fingerprint="unknown")
        session = Session(
            id="comparison", started_at=launches[0].newest.started_at if launches else "", plugin_version=""
        )
        candidate = Results(session=session, machine=machine)
    candidate.results = [test.result for test in outcome.compared]
    return candidate


def show(outcome: Outcome, results: Results, base: Side, verbosity: int) -> None:
    from pytest_slmperf.model.verdict import Verdict
    from pytest_slmperf.reports.terminal import encoding
    from pytest_slmperf.reports.terminal.table import verdict_table
    from pytest_slmperf.reports.view import shift_notes, view_of
    from pytest_slmperf.reports.wording import difference_text, wrap

    text = verdict_table(view_of(results), output.terminal_width(), verbosity, output.colour())
    output.say(encoding.table(text, sys.stdout.encoding), finished=True)
    for note in shift_notes(results.results):
        output.say("\n".join(["", *wrap(output.printable(f"note: {note}"), output.terminal_width())]), finished=True)
    if outcome.absent:
        output.say()
        output.say(f"not in the candidate: {', '.join(outcome.absent)}")
    shown = common_differences(outcome)
    if shown:
        output.say()
        output.say("what changed:")
        for row in shown:
            output.say(f"  {difference_text(row)}")
    counts = dict.fromkeys(Verdict, 0)
    for verdict in outcome.verdicts:
        counts[verdict.verdict] += 1
    counted = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    output.say()
    output.say(f"{counted} against {base.label}")


def common_differences(outcome: Outcome) -> list[Difference]:
    """The differences of all tests, each once, in the order of the tests."""
    rows: dict[str, Difference] = {}
    for test in outcome.compared:
        for row in [] if test.result.failure else test.match.differences:  # of an engine that failed little is known
            rows.setdefault(str(row), row)
    return list(rows.values())


def summary(outcome: Outcome, base: Side, candidate: Side, alpha: float) -> dict[str, Any]:
    """The JSON form: one entry per test with its verdicts and differences."""
    from pytest_slmperf.model.verdict import worst

    counts: dict[str, int] = {}
    for verdict in outcome.verdicts:
        counts[verdict.verdict] = counts.get(verdict.verdict, 0) + 1
    return {
        "schema_version": 1,
        "exit_code": outcome.exit_code,
        "base": base.label,
        "candidate": candidate.label,
        "alpha": alpha,
        "comparisons": outcome.comparisons,
        "counts": counts,
        "absent": outcome.absent,
        "results": [
            {
                "id": test.result.id,
                "verdict": worst(verdict.verdict for verdict in test.result.verdicts if verdict.gate),
                "verdicts": test.result.verdicts,
                "differences": test.match.differences,
            }
            for test in outcome.compared
        ],
    }
