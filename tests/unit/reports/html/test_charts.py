"""Every chart is a valid Vega-Lite specification and shows what the records hold."""

import importlib.util
import json
import random
import re
from pathlib import Path

import jsonschema
import pytest
from support.sample_results import duet, hostile_results, offline, sample_results, sweep

from pytest_slmperf.model.charts import Charts, HistoryChart, LatencySample, RooflineChart, SweepCharts
from pytest_slmperf.model.energy import PowerTrace
from pytest_slmperf.model.result import BaselineSide, MetricValue
from pytest_slmperf.reports.html.chart_data import ecdf, family_charts, result_charts
from pytest_slmperf.reports.html.charts import KINDS, figures_of, fill, span, specification, template_folder, themes
from pytest_slmperf.reports.html.report import render
from pytest_slmperf.reports.html.static_figures import static
from pytest_slmperf.reports.html.sweep_data import lost_area, pareto, point_verdict
from pytest_slmperf.util.quantiles import least_reaching


@pytest.fixture(scope="module")
def charts():
    results = sample_results().results
    own = [chart for result in results for chart in result_charts(result, 1)]
    return own + [chart for family in family_charts(results) for chart in family.charts]


def one(result, title):
    return next(chart for chart in result_charts(result, 1) if chart.title.startswith(title))


def test_every_kind_is_drawn_by_the_samples(charts):
    assert {chart.kind for chart in charts} == set(KINDS)


@pytest.fixture(scope="module")
def vega_lite():
    """Checks a specification against the whole JSON Schema of Vega-Lite, without importing what altair makes of it."""
    found = importlib.util.find_spec("altair")
    assert found is not None
    assert found.origin is not None
    (path,) = Path(found.origin).parent.glob("vegalite/v*/schema/vega-lite-schema.json")
    return jsonschema.Draft7Validator(json.loads(path.read_bytes()))


@pytest.mark.parametrize("kind", KINDS)
def test_specifications_are_valid_vega_lite(charts, kind, vega_lite):
    import vl_convert

    chart = next(chart for chart in charts if chart.kind == kind)
    vega_lite.validate(static(chart))
    for theme in themes():
        vega_lite.validate(specification(chart, theme))
        assert "<path" in vl_convert.vegalite_to_svg(specification(chart, theme))


def test_a_misspelt_property_is_not_valid(charts, vega_lite):
    assert not vega_lite.is_valid(specification(charts[0]) | {"encodng": {}})


def test_each_specification_file_is_a_kind_of_chart():
    files = [path.name for path in (template_folder() / "charts").glob("*.vl.json")]
    assert sorted(files) == sorted(f"{kind}.vl.json" for kind in KINDS)
    assert sorted(themes()) == ["dark", "light"]


def test_no_place_is_left_unfilled(charts):
    for chart in charts:
        assert "$" not in str({key: value for key, value in specification(chart).items() if key != "datasets"})


def test_columns_of_a_dataset_are_equally_long(charts):
    for chart in charts:
        for columns in chart.data.values():
            assert len({len(column) for column in columns.values()}) == 1


def test_every_chart_says_in_words_what_it_shows(charts):
    assert all(chart.text.endswith(".") and len(chart.text) > 10 for chart in charts)


def test_filling_never_reads_what_was_filled_in():
    assert fill({"title": "$a and $b", "values": "$c"}, {"a": "$b", "b": "x", "c": [1, 2]}) == {
        "title": "$b and x",
        "values": [1, 2],
    }


def test_rounds_show_both_sides_and_cross_out_the_discarded():
    result = offline(random.Random(1), 16, -0.1, "regressed")
    chart = one(result, "Rounds per launch: output throughput")
    rounds, discarded = chart.data["rounds"], chart.data["discarded"]
    assert rounds["side"].count("candidate") == sum(map(len, result.metrics["output_throughput"].launches))
    assert rounds["side"].count("baseline") == sum(map(len, result.baseline.metrics["output_throughput"].launches))
    assert len(discarded["value"]) == result.discarded_rounds == 2
    assert discarded["launch"] == ["candidate 2", "candidate 5"]
    assert "context switches" in discarded["why"][0]


def test_launches_of_a_duet_are_numbered_by_side():
    chart = one(duet(random.Random(1)), "Rounds per launch: output throughput")
    assert set(chart.data["discarded"]["launch"]) == {"baseline 2", "candidate 2"}
    assert set(chart.data["rounds"]["launch"]) == {
        f"{side} {n}" for side in ("baseline", "candidate") for n in (1, 2, 3, 4)
    }


def test_interval_chart_puts_worse_on_the_left_whatever_the_direction():
    result = offline(random.Random(1), 16, -0.1, "regressed", energy_change=0.09)
    data = one(result, "Change against").data["verdicts"]
    assert dict(zip(data["metric"], data["at"], strict=True)) == {
        "output throughput": -10.0,
        "energy per output token": -9.0,
    }
    assert all(low <= at <= high for low, at, high in zip(data["low"], data["at"], data["high"], strict=True))
    assert data["limit_at"] == [-5.0, -5.0]


def test_ecdf_is_monotonic_and_ends_at_one():
    values = sorted(random.Random(1).gauss(100, 10) for _ in range(1000))
    steps = ecdf(values, 50)
    assert len(steps) == 50
    assert steps == sorted(steps)
    assert steps[-1] == (1.0, values[-1])
    assert ecdf([1.0, 2.0], 50) == [(0.5, 1.0), (1.0, 2.0)]


def test_an_axis_spans_its_values_and_at_least_one_percent_to_either_side():
    assert span([5.0, 7.5]) == [5.0, 7.5]
    assert span([6.46, 6.46]) == [6.3954, 6.5246]
    assert span([6.46, 6.4604]) == [6.3956, 6.5248]
    assert span([-2.0, -2.0]) == [-2.02, -1.98]
    assert span([0.0, 0.0]) == span([]) == [0.0, 1.0]


def test_ticks_of_a_value_that_never_changes_have_its_decimals():
    vl_convert = pytest.importorskip("vl_convert")
    result = offline(random.Random(1), 16, 0.0, "same")
    result.metrics["ttft_p50"] = MetricValue(unit="ms", better="lower", value=6.46, launches=[[6.46] * 3] * 2)
    drawing = vl_convert.vegalite_to_svg(static(one(result, "Rounds per launch: TTFT p50")))
    ticks = re.findall(r"<text[^>]*>(6(?:\.\d+)?)</text>", drawing)
    assert "6" not in ticks
    assert {"6.44", "6.46", "6.48"} <= set(ticks)


def test_rounding_of_stored_percentiles_is_no_shift():
    result = offline(random.Random(1), 16, 0.0, "same")
    result.samples = {"ttft": LatencySample(values=[6.4604] * 3)}
    result.baseline.samples = {"ttft": LatencySample(values=[6.46] * 3)}
    chart = one(result, "Distribution of TTFT")
    assert set(chart.data["ecdf"]["value"]) == {6.46}
    assert chart.words["domain"] == [6.3954, 6.5246]


def test_values_are_drawn_as_finely_as_the_other_side_was_kept():
    assert figures_of([6.46, 97.42, 12350.0]) == 4
    assert figures_of([6.4604, 6.46]) == figures_of([]) == 5


def test_labels_of_changes_have_their_sign_where_all_metrics_agree_on_it():
    result = offline(random.Random(1), 16, -0.1, "regressed", energy_change=0.09)
    both = one(result, "Change against").words
    result.verdicts = result.verdicts[:1]
    higher = one(result, "Change against").words
    assert both["worse"] == "← worse by · better by →"
    assert both["labels"] == "replace(datum.label, '−', '') + ' %'"
    assert higher["worse"] == "← worse · better →"
    assert "'+'" in higher["labels"]


def test_quantile_is_the_smallest_value_that_so_many_do_not_exceed():
    assert [least_reaching([1, 2, 3, 4], share) for share in (0.25, 0.5, 0.51, 1.0)] == [1, 2, 3, 4]


def test_thinned_power_trace_keeps_its_energy():
    result = offline(random.Random(1), 16, 0.0, "same")
    full = result.energy.trace.watts["Sample GPU 80GB"]
    thin = next(chart for chart in result_charts(result, 500) if chart.kind == "power").data["power"]
    assert len(thin["watts"]) == 80
    assert sum(thin["watts"]) / len(thin["watts"]) == pytest.approx(sum(full) / len(full), rel=1e-4)


def test_family_is_drawn_over_batch_and_rings_only_what_was_judged():
    families = family_charts(sample_results().results)
    assert [family.name for family in families] == ["test_batch"]
    throughput, latency, energy = families[0].charts
    assert sorted(set(throughput.data["curve"]["batch"])) == [1, 4, 16, 64, 128, 256]
    assert throughput.text == "Regressed at batch 64, 128, 256."
    assert latency.text == "Shown, not judged."
    assert energy.text == "Regressed at batch 256."


def test_pareto_keeps_what_nothing_beats():
    assert pareto([(1, 10), (2, 30), (3, 20), (4, 30), (5, 31), (1, 9)]) == {(1, 10), (2, 30), (5, 31)}


def test_lost_area_is_where_the_old_frontier_stands_above_the_new():
    old, new = [(1.0, 10.0), (2.0, 20.0)], [(1.0, 10.0), (2.5, 20.0)]
    assert lost_area(old, new) == {"x": [1.0, 2.0, 2.5], "y": [10.0, 20.0, 20.0], "y2": [10.0, 10.0, 20.0]}
    assert lost_area(new, old) == {"x": [], "y": [], "y2": []}
    assert lost_area([], new)["x"] == []


def test_frontier_leaves_out_what_preempted_and_marks_the_knee():
    chart = one(sweep(random.Random(1)), "Frontier: output throughput against ITL")
    points = chart.data["points"]
    notes = {
        key: note
        for key, note, side in zip(points["key"], points["note"], points["side"], strict=True)
        if side == "candidate"
    }
    assert notes["768"] == "543 preemptions; same"
    assert notes["16"] == "on the frontier; same"
    assert [key for key, bad in zip(points["key"], points["bad"], strict=True) if bad] == ["256", "384", "512"]
    assert chart.data["knees"]["what"] == ["knee", "advised"]
    assert "knee at 256; advised at 192" in chart.text
    assert "shaded red" in chart.text


def test_a_point_that_is_left_out_is_not_called_new():
    verdicts = {"output_throughput": {"verdict": "new"}}
    assert point_verdict({"key": 1, "verdicts": verdicts, "preemptions": 0}) == "new"
    assert point_verdict({"key": 1, "verdicts": verdicts, "preemptions": 900}) == ""
    lost = {"output_throughput": {"verdict": "incomparable"}}
    assert point_verdict({"key": 1, "verdicts": lost, "preemptions": 900}) == "incomparable"


def test_marks_on_one_point_share_a_label_and_the_old_knee_stands_apart():
    result = sweep(random.Random(1))
    for pair in result.charts.sweep.frontiers:
        pair.knee, pair.advice, pair.baseline_knee = 256, 256, 128
    chart = one(result, "Frontier: output throughput against ITL")
    knees = chart.data["knees"]
    assert list(zip(knees["what"], knees["side"], knees["label"], strict=True)) == [
        ("knee", "candidate", "knee, advised"),
        ("advised", "candidate", ""),
        ("knee", "baseline", "old knee"),
    ]
    assert "old knee at 128" in chart.text


def test_charts_survive_records_that_hold_nothing_to_draw():
    result = offline(random.Random(1), 16, -0.1, "regressed")
    result.baseline = BaselineSide()
    result.samples = {"ttft": LatencySample(), "itl": []}
    result.points = [{"key": 1}, {"key": 2, "output_throughput": float("nan"), "itl_mean": 3}]
    result.charts = Charts(sweep=SweepCharts(), history={"itl_mean": HistoryChart()}, roofline=RooflineChart())
    result.energy.trace = PowerTrace(t_s=[1, 2], watts={"a": [1]})
    assert {chart.kind for chart in result_charts(result, 1)} == {"intervals", "rounds"}


def test_a_percentile_that_falls_on_infinity_is_drawn_nowhere_and_breaks_nothing():
    results = sample_results(0)
    result = duet(random.Random(1))
    result.metrics["output_throughput"].launches[0] = [float("inf")] * 3
    result.metrics["e2el_p99"].value = float("inf")
    latencies = result.samples["e2el"]
    assert isinstance(latencies, LatencySample)
    latencies.values[-1] = float("inf")
    result.energy.idle_w_after = float("nan")
    results.results = [result]
    page = render(results)
    assert "failed" in page
    assert "Infinity" not in page.split('id="held-curves"')[0].split("<body>")[1].split("<script")[0]


def test_names_from_outside_stand_only_in_data_and_text():
    for result in hostile_results().results:
        for chart in result_charts(result, 1):
            spec = specification(chart)
            assert "<script" not in str({key: value for key, value in spec.items() if key != "datasets"})
