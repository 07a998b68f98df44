"""One judge for sessions, sweeps and files that are read back, and one place where a verdict's record is made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pytest_slmperf
from pytest_slmperf.measuring.judge import Judge, Sides, unjudged_record, verdict_record
from pytest_slmperf.model.verdict import Gate, Judgement, LaunchSample, Verdict
from pytest_slmperf.statistics.variance import STATED_PRIOR

PACKAGE = Path(pytest_slmperf.__file__).parent
THROUGHPUT, LATENCY = Gate("output_throughput", "higher"), Gate("itl_mean", "lower")


def places(pattern: str) -> list[str]:
    return [
        file.relative_to(PACKAGE).as_posix()
        for file in sorted(PACKAGE.rglob("*.py"))
        for _ in re.finditer(pattern, file.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(
    ("pattern", "place"),
    [
        (r"(?<!class )\bVerdictRecord\(", "measuring/judge.py"),
        (r"(?<!class )\bComparison\(", "measuring/judge.py"),
        (r"(?<!def )\bestimate_prior\((?!quiet)", "measuring/judge.py"),
    ],
    ids=["record of a verdict", "comparison", "prior of the noise"],
)
def test_each_is_made_in_one_place(pattern, place):
    assert places(pattern) == [place]


def launches(*levels: float) -> list[LaunchSample]:
    return [LaunchSample([level, level * 1.001, level * 0.999], session="s") for level in levels]


class Scripted(Sides):
    """Launches of a side that come one after the other; ``asked`` lists how many were wanted each time."""

    def __init__(self, candidate, baseline, *, ahead=0, unlike=None):
        self.all, self.base, self.shown = candidate, baseline, len(candidate) - ahead
        self.unlike = unlike or {}
        self.asked: list[int] = []

    def samples(self):
        return {"output_throughput": self.all[: self.shown]}, self.base

    def unread(self, metric, candidate, baseline):
        return Verdict.NEW, f"candidate {candidate}, baseline {baseline}"

    def further_launches(self):
        return None if self.shown == len(self.all) else self.measure

    def measure(self, launches):
        self.asked.append(launches)
        self.shown = min(len(self.all), self.shown + launches)


def judge(*gates: Gate, most: int = 8) -> Judge:
    return Judge(gates, 0.01, "stored", lambda metrics: STATED_PRIOR, most)


def test_a_metric_without_readings_takes_no_share_of_the_error():
    sides = Scripted(launches(100, 101, 99), {"output_throughput": launches(100, 100.5, 99.5)})
    both = judge(THROUGHPUT, LATENCY).run(sides)
    alone = judge(THROUGHPUT).run(sides)
    assert [judgement.metric for judgement in both] == ["output_throughput", "itl_mean"]
    assert both[0] == alone[0]
    assert (both[1].verdict, both[1].reason) == ("new", "candidate False, baseline False")


def test_readings_that_are_not_comparable_are_never_compared():
    why = {"output_throughput": "another meter"}
    sides = Scripted(launches(50, 50), {"output_throughput": launches(100, 100)}, unlike=why)
    (judgement,) = judge(THROUGHPUT).run(sides)
    assert (judgement.verdict, judgement.reason, judgement.change) == ("incomparable", "another meter", None)


def test_more_launches_are_measured_while_the_verdict_is_open_and_may_be():
    sides = Scripted(launches(*[80.0] * 8), {"output_throughput": launches(*[100.0] * 4)}, ahead=6)
    (judgement,) = judge(THROUGHPUT).run(sides)
    assert judgement.verdict == "regressed"
    assert sides.asked
    assert "confirmed by" in judgement.reason


def test_sides_that_are_read_back_are_asked_for_nothing():
    class ReadBack(Scripted):
        further_launches = Sides.further_launches

    (judgement,) = judge(THROUGHPUT).run(ReadBack(launches(100, 90), {"output_throughput": launches(100, 100)}))
    assert judgement.verdict == "inconclusive"


def test_the_record_holds_the_gate_and_the_judgement():
    gate = Gate("itl_mean", "lower", tolerance=0.02, limit=0.1, gate=False)
    record = verdict_record(gate, Judgement("itl_mean", Verdict.SAME, 0.01, (0.0, 0.02), "why", 3, {"df": 2}), "main")
    assert (record.metric, record.verdict, record.change, record.ci) == ("itl_mean", "same", 0.01, (0.0, 0.02))
    assert (record.tolerance, record.limit, record.gate, record.baseline) == (0.02, 0.1, False, "main")
    assert (record.reason, record.more_launches, record.detail) == ("why", 3, {"df": 2})
    assert unjudged_record(gate, Verdict.NEW, "none").change is None
