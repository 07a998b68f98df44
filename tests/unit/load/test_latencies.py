"""The formulas, against answers worked out by hand."""

import json
import math

import numpy
import pytest

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.load.evidence import running_curve
from pytest_slmperf.load.latencies import Slo, measure, peak_rate
from pytest_slmperf.load.plan import LoadPlan, Target
from pytest_slmperf.load.rows import LoadSums, PlannedRequest, RequestRecord
from pytest_slmperf.load.samples import Outcome, Requests
from pytest_slmperf.load.sketch import Sketch
from pytest_slmperf.util.quantiles import percentile

MS = 1_000_000


def outcome(rows, window=None, loop="open", gaps=(), n_out=None, hidden=0):
    """rows: (due, sent, first, last, n_in, n_out, error, inside) in ms."""
    requests = Requests()
    for index, (due, sent, first, last, n_in, made, error, inside) in enumerate(rows):
        begin = due if loop == "open" else sent
        measured = window is None or window[0] <= begin < window[1]
        first_ns, last_ns = (None if t is None else t * MS for t in (first, last))
        requests.add(
            RequestRecord(
                index,
                due * MS,
                sent * MS,
                first_ns,
                last_ns,
                n_in,
                made,
                error=error,
                inside=inside,
                measured=measured,
                hidden=hidden,
            )
        )
    load = LoadPlan(
        [PlannedRequest(i, "{}", due=0.0, n_out=n_out or row[5]) for i, row in enumerate(rows)],
        loop=loop,
        concurrency=1 if loop == "closed" else None,
        window_s=None if window is None else (window[1] - window[0]) / 1e3,
    )
    sums = LoadSums(
        gaps=[(gap * MS, times) for gap, times in gaps],
        gap_sum_ns=sum(gap * times for gap, times in gaps) * MS,
        gap_count=sum(times for _, times in gaps),
        tiles=[0],
        window_ns=(window[0] * MS, window[1] * MS) if window else (0, 0),
    )
    return Outcome.merge(load, 0, requests, [sums])


def test_latency_runs_from_the_time_a_request_was_due():
    # trap, coordinated omission: sent 100 ms late, answered 50 ms after that
    late = [(0, 100, 150, 190, 4, 5, None, 5)]
    assert measure(outcome(late)).values["ttft_mean"] == pytest.approx(150)
    assert measure(outcome(late, loop="closed")).values["ttft_mean"] == pytest.approx(50)
    assert measure(outcome(late)).values["e2el_p99"] == pytest.approx(190)


def test_tpot_has_no_ttft_in_it_and_leaves_out_single_tokens():
    # trap: GuideLLM's TPOT would be 190/5 = 38; it is (190 − 150) ÷ 4
    result = measure(outcome([(0, 0, 150, 190, 4, 5, None, 5), (0, 0, 10, 10, 4, 1, None, 1)]))
    assert result.values["tpot_mean"] == pytest.approx(10)
    assert result.counts["tpot_excluded"] == 1
    only = measure(outcome([(0, 0, 10, 10, 4, 1, None, 1)]))
    assert only.values["tpot_p50"] is None
    assert "two tokens" in only.reasons["tpot_p50"]


def test_tokens_of_reasoning_that_were_not_sent_are_output_and_no_gaps():
    """5 of 9 tokens were thought of before the first that was sent: 40 ms are between 4 tokens that were."""
    result = measure(outcome([(0, 0, 150, 180, 4, 9, None, 9)], hidden=5))
    assert result.values["tpot_mean"] == pytest.approx(10)
    assert result.values["output_throughput"] == pytest.approx(9 / 0.180)
    assert result.notes == [
        "5 tokens of reasoning were counted and not sent: they came before the first token that was"
    ]


def test_lengths_of_answers_are_counted():
    rows = [(0, 0, 10, 30, 1, 3, None, 3), (0, 0, 10, 30, 1, 5, None, 5), (0, 0, None, None, None, 0, "timeout", 0)]
    lengths = measure(outcome(rows, n_out=5)).lengths
    assert (lengths.requests, lengths.asked, lengths.came, lengths.other) == (2, 10, 8, 1)


def test_failures_count_as_infinite_and_are_never_dropped():
    rows = [(0, 0, 10, 30, 1, 3, None, 3)] * 98 + [(0, 0, None, None, None, 0, "timeout", 0)] * 2
    result = measure(outcome(rows, gaps=[(10, 196)], n_out=3), Slo(ttft=20))
    assert result.values["ttft_p95"] == pytest.approx(10)
    assert result.values["ttft_p99"] is None
    assert "2 of 100 requests failed (2 timeout)" in result.reasons["ttft_p99"]
    assert result.values["ttft_mean"] is None
    assert "10.000 ms" in result.reasons["ttft_mean"]
    assert result.values["itl_p50"] == pytest.approx(10, rel=2e-3)
    assert result.values["itl_p99"] is None  # 4 of 200 gaps never came
    assert result.values["slo_attainment"] == pytest.approx(0.98)
    assert result.failures == {"timeout": 2}
    assert result.samples["ttft"]["failed"] == 2


def test_goodput_needs_every_bound():
    rows = [(0, 0, 10, 50, 1, 5, None, 5), (0, 0, 30, 70, 1, 5, None, 5), (0, 0, 10, 250, 1, 5, None, 5)]
    result = measure(outcome(rows, window=(0, 500)), Slo(ttft=20, tpot=20))
    assert result.values["goodput"] == pytest.approx(1 / 0.5)
    assert result.values["slo_attainment"] == pytest.approx(1 / 3)
    assert measure(outcome(rows)).values.get("goodput") is None


def test_an_outcome_is_measured_as_often_as_one_likes():
    load = outcome([(0, 0, 10, 30, 1, 3, None, 3), (0, 0, None, None, None, 0, "timeout", 0)], gaps=[(10, 2)], n_out=3)
    assert measure(load).samples == measure(load).samples


def test_throughput_counts_what_flows_inside_the_window():
    rows = [
        (0, 0, 50, 150, 10, 6, None, 3),  # began before the window
        (120, 120, 150, 190, 20, 5, None, 5),
        (180, 180, 210, 250, 40, 5, None, 0),  # answered after it
    ]
    result = measure(outcome(rows, window=(100, 200)))
    assert result.values["output_throughput"] == pytest.approx(8 / 0.1)
    assert result.values["total_token_throughput"] == pytest.approx((8 + 20) / 0.1)
    assert result.values["request_throughput"] == pytest.approx(2 / 0.1)
    assert result.counts["due"] == 2
    assert result.counts["warmup_or_after"] == 1


def test_running_requests_do_not_overcount_short_ones():
    # trap: ten requests of 10 ms one after the other; a one-second bucket would say ten at once
    requests = outcome([(t, t, t + 5, t + 10, 1, 2, None, 2) for t in range(0, 100, 10)]).requests
    curve = running_curve(requests, (0, 100 * MS))
    assert curve.peak == 1
    assert curve.mean == pytest.approx(1)
    assert sum(curve.running) / len(curve.running) == pytest.approx(1, abs=1e-3)
    half = running_curve(requests, (0, 200 * MS))
    assert half.mean == pytest.approx(0.5)


def test_peak_rate_is_never_below_the_mean_rate():
    # trap: 300 tokens in the first half second of 1.5 s; buckets of one second that end with a part could say less
    tiles = [200, 100]
    assert peak_rate(tiles, 1.5) >= sum(tiles) / 1.5
    assert peak_rate([], 1.5) is None


def test_percentiles_are_those_of_numpy():
    values = sorted([3.0, 1.0, 10.0, 7.5, 2.25])
    for share in (0, 0.1, 0.5, 0.9, 0.99, 1):
        assert percentile(values, share) == pytest.approx(numpy.percentile(values, 100 * share))
    assert percentile([1.0, math.inf], 0.5) == math.inf
    assert percentile([1.0, math.inf], 0.0) == 1.0
    assert percentile([], 0.5) is None


def test_sketch_error_merge_and_json():
    random = numpy.random.default_rng(1)
    values = random.lognormal(2, 1, 20_000)
    left, right = Sketch(), Sketch()
    left.extend(values[:5000])
    right.extend(values[5000:])
    left.merge(right)
    for share in (0.01, 0.5, 0.9, 0.99):
        exact = numpy.percentile(values, 100 * share, method="lower")
        assert left.quantile(share) == pytest.approx(exact, rel=left.relative_error * 1.01)
    assert left.mean == pytest.approx(values.mean())
    data = left.to_json()
    assert sum(weight for _, weight in data["bins"]) == data["count"] == 20_000
    assert len(data["bins"]) < 1500
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    with pytest.raises(ValueError):
        left.add(math.nan)
    with pytest.raises(ValueError):
        left.add(-1)


def test_sketch_with_failures_only():
    sketch = Sketch()
    assert sketch.quantile(0.5) is None
    sketch.add(math.inf, 3)
    assert sketch.quantile(0.5) == math.inf
    assert sketch.mean is None
    assert sketch.to_json()["min"] is None


def test_lateness_contaminates_and_names_its_bound():
    late = measure(outcome([(0, 20, 50, 90, 1, 5, None, 5)]))
    assert late.contaminated is not None
    assert late.contaminated.startswith("sender_lateness: requests were sent 20.00 ms late")
    assert measure(outcome([(0, 0, 50, 90, 1, 5, None, 5)])).contaminated is None
    assert measure(outcome([(0, 20, 50, 90, 1, 5, None, 5)], loop="closed")).contaminated is None


def test_slices_keep_conversations_together_and_lose_nothing():
    requests = [
        PlannedRequest(0, "a"),
        PlannedRequest(1, "b"),
        PlannedRequest(2, "c", after=0),
        PlannedRequest(3, "d", after=2),
        PlannedRequest(4, "e"),
    ]
    plans = LoadPlan(requests, loop="closed", concurrency=3, clients=2).slices()
    indices = [[request.number for request in plan.requests] for plan in plans]
    assert sorted(indices[0] + indices[1]) == [0, 1, 2, 3, 4]
    assert {0, 2, 3} <= set(indices[0])
    assert sorted(plan.concurrency for plan in plans) == [1, 2]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Target("localhost:8000"),
        lambda: Target("ftp://x"),
        lambda: Target("http://x:99999"),
        lambda: Target("http://user:secret@x"),
        lambda: LoadPlan([]),
        lambda: LoadPlan([PlannedRequest(0, "")]),
        lambda: LoadPlan([PlannedRequest(0, "")], loop="closed"),
        lambda: LoadPlan([PlannedRequest(0, "", due=0.0)], drain_s=0),
        lambda: Slo(ttft=0),
        lambda: Slo.of({"itl": 5}),
        lambda: Slo.of({}),
    ],
)
def test_nonsense_is_refused(make):
    with pytest.raises(InvalidInput) as caught:
        make()
    assert "secret" not in str(caught.value)


def test_paths_of_an_endpoint():
    assert Target("http://x:1/v1/").path("models") == "/v1/models"
    assert Target("https://x/base").path("completions") == "/base/v1/completions"
    assert (Target("https://x").port, Target("http://x").port) == (443, 80)
