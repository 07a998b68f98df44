"""What every report says first: one outcome a test, one line a judged metric; and the small drawings beside it."""

import random
import re

import pytest
from support.sample_results import failed, gallery, offline, sample_results, serving, sweep, unmetered

from pytest_slmperf.model.charts import LatencySample, Samples, sample_of
from pytest_slmperf.model.result import BaselineReading, BaselineSide, Engine, Result
from pytest_slmperf.model.verdict import Verdict, VerdictRecord
from pytest_slmperf.reports.facts import differences, energy_facts, engine_facts, machine_facts, pairs, session_facts
from pytest_slmperf.reports.html.tables import (
    LatencyCell,
    interval_bar,
    latency_table,
    metric_rows,
    sparkline,
    unavailable,
)
from pytest_slmperf.reports.view import grouped, lines_of, outcome_of, short_ids, view_of


@pytest.fixture
def draw():
    return random.Random(5)


def test_outcome_is_the_worst_gated_verdict(draw):
    result = offline(draw, 16, -0.1, "regressed")
    assert outcome_of(result) == "regressed"
    result.verdicts[0].gate = False
    assert outcome_of(result) == "same"
    assert [line.outcome for line in lines_of(result, gated_only=False)] == ["same", "regressed"]


def test_a_test_without_verdicts_still_has_a_line(draw):
    result = offline(draw, 16, 0.0, "same")
    result.verdicts = []
    assert {line.outcome for line in lines_of(result)} == {"measured"}
    result.metrics = {}
    assert [line.outcome for line in lines_of(result)] == ["measured"]
    assert [line.outcome for line in lines_of(failed())] == ["failed"]


def test_an_unknown_verdict_is_not_hidden_among_the_calm(draw):
    result = offline(draw, 16, 0.0, "same")
    result.verdicts[0].verdict = "catastrophe"  # type: ignore[assignment]
    assert lines_of(result)[0].outcome == "catastrophe"


def test_counts_are_worst_first(draw):
    results = sample_results(0)
    results.results = gallery(draw)
    assert list(view_of(results).counts.items()) == [
        ("failed", 1),
        ("regressed", 5),
        ("incomparable", 1),
        ("inconclusive", 1),
        ("new", 1),
        ("improved", 1),
        ("same", 5),
    ]


def test_a_point_of_a_sweep_has_its_metrics_direction(draw):
    result = sweep(draw)
    result.verdicts = [VerdictRecord(metric="itl_mean@64", verdict=Verdict.REGRESSED, change=0.1, ci=(0.08, 0.12))]
    assert lines_of(result)[0].better == "lower"


def test_short_ids_stay_unambiguous(draw):
    a, b, c = (
        offline(draw, 1, 0.0, "same", identifier=name) for name in ("x/a.py::t[1]", "x/b.py::t[1]", "y/b.py::t[1]")
    )
    assert short_ids([a]) == {"x/a.py::t[1]": "t[1]"}
    assert short_ids([a, b])["x/b.py::t[1]"] == "b.py::t[1]"
    assert short_ids([a, b, c])["y/b.py::t[1]"] == "y/b.py::t[1]"
    below = [offline(draw, 1, 0.0, "same", identifier=f"perf/suite/{name}/t.py::t") for name in ("x", "xy")]
    assert list(short_ids(below).values()) == ["x/t.py::t", "xy/t.py::t"]  # what all have tells nothing


def test_missing_energy_says_why_and_shows_no_figure(draw):
    facts = energy_facts(unmetered(draw))
    assert facts.reason == "no NVML library and no RAPL on this machine"
    assert facts.rows == []


def test_differences_are_counted_over_the_tests_that_were_compared(draw):
    one, two = offline(draw, 1, 0.0, "same"), offline(draw, 2, 0.0, "same")
    two.differences = two.differences[:1]
    found = {item.what: item for item in differences([one, two, offline(draw, 3, 0.0, "new")])}
    assert found["engine version"].everywhere
    assert (found["torch"].tests, found["torch"].everywhere) == (1, False)


def test_latencies_stand_in_one_table_and_nowhere_else(draw):
    result = serving(draw)
    rows = {row.label: row.cells for row in latency_table(result)}
    assert list(rows) == ["TTFT", "ITL", "end-to-end latency"]
    assert rows["TTFT"][0] == LatencyCell(after="–", before="")
    assert rows["TTFT"][1].after == "79.91"
    assert "TTFT p50" not in [row.label for row in metric_rows(result)]


def test_a_shared_reason_is_given_once(draw):
    result = unmetered(draw)
    assert unavailable(result) == [
        ("energy per output token", "no NVML library and no RAPL on this machine"),
        ("goodput", "the scenario states no SLO"),
    ]


def test_baseline_value_is_the_mean_of_launch_means_where_none_is_kept(draw):
    result = offline(draw, 1, 0.0, "same")
    result.baseline = BaselineSide(metrics={"output_throughput": BaselineReading(launches=[[1.0, 3.0], [], [5.0]])})
    assert result.baseline_value("output_throughput") == 3.5
    result.baseline = BaselineSide()
    assert result.baseline_value("output_throughput") is None


def test_only_finite_values_of_a_sample_are_drawn():
    samples: Samples = {
        "ttft": [2.5, 1.0, float("nan"), float("inf")],
        "itl": LatencySample(unit="us", values=[3.0, 2.0]),
    }
    assert sample_of(samples, "ttft") == LatencySample(unit="ms", values=[1.0, 2.5])
    assert sample_of(samples, "itl") == LatencySample(unit="us", values=[2.0, 3.0])
    assert sample_of(samples, "e2el").values == []


def test_nested_facts_are_flat_rows():
    assert pairs({"a": {"b": [1, None]}, "c": True}) == [("a › b", "1, none"), ("c", "yes")]


def verdict(change, low, high, name="regressed"):
    return VerdictRecord(metric="m", verdict=name, change=change, ci=(low, high), tolerance=0.01, limit=0.05)


def place(svg, pattern):
    return float(re.search(pattern, str(svg))[1])


def test_bar_puts_worse_left_for_either_direction():
    slower = interval_bar(verdict(-0.06, -0.07, -0.05), "higher", 0.1)
    hungrier = interval_bar(verdict(0.06, 0.05, 0.07), "lower", 0.1)
    assert place(slower, r'cx="([\d.]+)"') == place(hungrier, r'cx="([\d.]+)"') < 75
    assert place(slower, r'class="lim" d="M([\d.]+)') > place(slower, r'cx="([\d.]+)"')


def test_bar_beyond_the_axis_is_an_arrow_inside_the_drawing():
    bar = str(interval_bar(verdict(-0.9, -0.95, -0.85), "higher", 0.1))
    assert "<circle" not in bar
    assert bar.count('class="ci"') == 2
    assert all(0 <= float(x) <= 150 for x in re.findall(r"[MH]([\d.]+)", bar))


def test_no_change_no_bar():
    assert interval_bar(VerdictRecord(metric="m", verdict=Verdict.NEW), "higher", 0.1) == ""


def test_sparkline_does_not_blow_up_noise():
    flat = str(sparkline([100.0, 100.1], [99.9, 100.0]))
    heights = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)h0", flat)]
    assert max(heights) - min(heights) < 2
    assert sparkline([], [1.0]) == ""
    step = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)h0", str(sparkline([100.0, 100.0], [70.0, 70.0])))]
    assert step == [4.0, 4.0, 20.0, 20.0]


def test_lines_with_one_reason_are_one_group_worst_first():
    def result(name, verdict, reason):
        return Result(
            id=f"t.py::{name}",
            scenario={},
            engine=Engine(name="e", version="1", model="m", weights="dummy", device="cpu"),
            verdicts=[VerdictRecord(metric="output_throughput", verdict=verdict, reason=reason)],
        )

    results = [
        result("a", "new", ""),
        result("b", "inconclusive", "busy"),
        result("c", "inconclusive", "busy"),
        result("d", "incomparable", "other GPU"),
        result("e", "new", ""),
    ]
    found = grouped(line for one in results for line in lines_of(one))
    assert [(group.outcome, group.tests) for group in found] == [
        ("incomparable", ["t.py::d"]),
        ("inconclusive", ["t.py::b", "t.py::c"]),
        ("new", ["t.py::a"]),
        ("new", ["t.py::e"]),
    ]


def test_a_swept_setting_is_not_told_as_the_engines(draw):
    result = sweep(draw)
    result.engine.facts["max_num_seqs"] = 1
    assert ("max num seqs", "256") in engine_facts(result)
    result.scenario["varied"] = {"max_num_seqs": [1, 4, 256]}
    assert "max num seqs" not in dict(engine_facts(result))
    assert "kv cache tokens" in dict(engine_facts(result))


def test_a_card_that_cannot_be_opened_is_told_with_why(make_results, make_result):
    results = make_results(make_result())
    results.machine.gpus = [{"name": "H100", "index": 0}, {"name": "GPU 1", "index": 1, "closed": "the GPU is lost"}]
    assert dict(session_facts(results))["machine"] == "H100, GPU 1 (cannot be opened: the GPU is lost)"
    assert dict(machine_facts(results))["GPU 1 closed"] == "the GPU is lost"
