"""Each statement can hold, fail and stay open; the figures are those of published runs, or run against the statement."""

import pytest

from pytest_slmperf.contrib.findings import across, sweeps
from pytest_slmperf.contrib.findings import replicas as rule
from pytest_slmperf.contrib.findings.page import findings_of
from pytest_slmperf.model.charts import BoundOnMetric, ReplicationRow, SweepCharts

# arXiv 2503.08311's public log of OPT-1.3B on one H100: batch → tok/s, KV share; power and energy follow its ratios
PUBLISHED = {1: (281.7, 0.2), 32: (5290.6, 7.3), 256: (10522.0, 38.0), 512: (10998.0, 72.0), 768: (10968.0, 90.0)}


def saturated(scale=1.0):
    return {
        batch: {"output_throughput": speed, "itl_mean": 3.0 + batch / 20, "kv_cache_peak": min(100.0, scale * share)}
        for batch, (speed, share) in PUBLISHED.items()
    }


def outcome(findings, statement):
    found = [one for one in findings if one.statement == statement]
    assert len(found) == 1, [one.statement for one in findings]
    return found[0].outcome


def test_the_published_sweep_holds(sweep):
    rows = saturated()
    rows[768]["standing"] = "dominated"
    found = list(sweeps.sweep_findings(sweep("max_num_seqs", rows, requests=2000)))
    assert outcome(found, sweeps.SATURATED_KNEE) == "holds"
    assert outcome(found, sweeps.PLATEAU) == "holds"
    assert outcome(found, sweeps.PAST_PEAK) == "holds"
    knee = next(one for one in found if one.statement == sweeps.SATURATED_KNEE)
    assert "max_num_seqs 256" in knee.evidence
    assert "38" in knee.evidence


def test_a_knee_at_a_full_cache_does_not_hold(sweep):
    found = list(sweeps.sweep_findings(sweep("max_num_seqs", saturated(scale=2.6), requests=2000)))
    assert outcome(found, sweeps.SATURATED_KNEE) == "does not hold"


def test_an_uncertain_knee_cannot_be_told(sweep):
    """Half the launches put the knee on the one, half on the other side of half the cache."""
    result = sweep("max_num_seqs", saturated(), requests=2000)
    for row in result.points:
        if row["key"] == 256:
            row["kv_cache_peak"] = 45.0
            row["launches"]["output_throughput"] = [[9900.0], [11000.0]] * 3
    assert outcome(sweeps.sweep_findings(result), sweeps.SATURATED_KNEE) == "cannot be told"


def test_offline_batches_rise_to_a_plateau(sweep):
    found = list(sweeps.sweep_findings(sweep("batch", saturated())))
    assert [one.outcome for one in found if one.scenario == "S1"] == ["holds"] * 3
    straight = {b: {"output_throughput": 100.0 * b, "itl_mean": 10.0} for b in (1, 2, 4)}
    found = list(sweeps.sweep_findings(sweep("batch", straight)))
    assert outcome(found, sweeps.RISES) == "holds"
    assert outcome(found, sweeps.SUBLINEAR) == "cannot be told"
    assert outcome(found, sweeps.PLATEAU) == "does not hold"
    falling = {b: {"output_throughput": 100.0 / b, "itl_mean": 10.0} for b in (1, 2, 4)}
    assert outcome(sweeps.sweep_findings(sweep("batch", falling)), sweeps.RISES) == "does not hold"


@pytest.mark.parametrize(
    ("standing", "expected"),
    [("dominated", "holds"), ("indistinguishable", "cannot be told"), ("frontier", "does not hold")],
)
def test_points_past_the_peak(sweep, standing, expected):
    rows = saturated()
    rows[768]["standing"] = standing
    assert outcome(sweeps.sweep_findings(sweep("batch", rows)), sweeps.PAST_PEAK) == expected


def test_energy_falls_then_is_flat(sweep):
    rows = saturated()
    for batch, watts in zip(rows, (300.0, 330.0, 360.0, 362.0, 363.0), strict=True):
        rows[batch] |= {"mean_power": watts, "energy_per_output_token": watts / rows[batch]["output_throughput"]}
    found = [one for one in sweeps.sweep_findings(sweep("batch", rows)) if one.scenario == "S11"]
    assert [one.outcome for one in found] == ["holds"] * 3
    for batch in rows:
        rows[batch] |= {"mean_power": 100.0 + batch, "energy_per_output_token": 1.0 + batch / 256}
    found = [one for one in sweeps.sweep_findings(sweep("batch", rows)) if one.scenario == "S11"]
    assert [one.outcome for one in found] == ["does not hold"] * 3


def test_energy_that_was_not_read_is_never_zero(sweep):
    result = sweep("batch", saturated())
    result.points[0]["missing"] = {"energy_per_output_token": "no permission"}
    found = next(one for one in sweeps.sweep_findings(result) if one.scenario == "S11")
    assert (found.outcome, found.evidence) == ("not measured", "no permission")


def test_utilisation_that_hides_throughput(sweep):
    rows = saturated()
    for batch, busy in zip(rows, (98.0, 97.0, 80.0, 78.0, 78.0), strict=True):
        rows[batch]["utilization_percent_mean"] = busy
    assert outcome(sweeps.sweep_findings(sweep("batch", rows)), sweeps.UTILISATION) == "holds"
    for batch in rows:
        rows[batch]["utilization_percent_mean"] = rows[batch]["output_throughput"] / 120
    assert outcome(sweeps.sweep_findings(sweep("batch", rows)), sweeps.UTILISATION) == "does not hold"


def test_kv_budget_tells_what_is_freed(sweep):
    rows = {tokens: {"output_throughput": speed} for tokens, speed in ((1000, 60.0), (9216, 99.0), (19456, 100.0))}
    found = next(iter(sweeps.sweep_findings(sweep("kv_cache_tokens", rows))))
    assert found.outcome == "holds"
    # 10240 tokens × 2 · 24 layers · 2048 wide · 2 bytes
    assert f"10240 tokens of KV cache freed ({10240 * 2 * 24 * 2048 * 2 / 2**30:.3g} GiB)" in found.evidence


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ("fp8", f"({10240 * 2 * 24 * 2048 / 2**30:.3g} GiB)"),
        ("auto", f"({10240 * 2 * 24 * 2048 * 2 / 2**30:.3g} GiB)"),
        ("turboquant_k8v4", "(bytes of a KV cache in turboquant_k8v4 not known)"),
    ],
)
def test_kv_budget_is_told_in_the_bytes_that_the_cache_is_kept_in(sweep, kept, told):
    rows = {tokens: {"output_throughput": speed} for tokens, speed in ((1000, 60.0), (9216, 99.0), (19456, 100.0))}
    result = sweep("kv_cache_tokens", rows)
    result.engine.settings["kv_cache_dtype"] = kept
    found = next(iter(sweeps.sweep_findings(result)))
    assert found.evidence.endswith(f"10240 tokens of KV cache freed {told}")


def test_context_length(sweep):
    rows = {n: {"output_throughput": 50.0, "itl_mean": 5 + n / 100, "kv_cache_peak": n / 10} for n in (130, 520)}
    assert [one.outcome for one in sweeps.sweep_findings(sweep("output_len", rows))] == ["holds", "holds"]


@pytest.mark.parametrize(("bound", "expected"), [(30.0, "holds"), (20.0, "cannot be told"), (10.0, "does not hold")])
def test_the_pick_against_its_own_bound(sweep, bound, expected):
    asked = sweep("batch", saturated())
    asked.charts.sweep = SweepCharts(slos=[BoundOnMetric(name="itl_mean", bound=bound)])
    again = sweep("batch", {256: {"output_throughput": 1.0, "itl_mean": 20.0}}, "t.py::test_x::confirm 256")
    found = list(sweeps.pick_findings([asked, again]))
    assert [one.outcome for one in found] == [expected]
    assert not list(sweeps.sweep_findings(again))  # one point is no shape


def test_one_usable_point_is_no_shape(sweep):
    found = list(sweeps.sweep_findings(sweep("batch", {4: {"output_throughput": 9.0}})))
    assert [one.outcome for one in found] == ["not measured"]


def test_replication_published(replicas):
    speeds = {"k=1": 10500.0, "k=2": 14669.0, "k=4": 14720.0, "all memory": 10968.0, "chunked prefill": 11860.0}
    found = list(rule.replication_findings(replicas(speeds, full={"k=4": 99.0})))
    assert outcome(found, rule.PAYS) == "holds"
    assert outcome(found, rule.STOPS) == "cannot be told"  # +0.3 %, ± 2 %: less than 2 % more, or not
    gains = [one for one in found if one.scenario == "S10"]
    assert [one.outcome for one in gains] == ["holds"] * 3
    assert "+34.2 %" in gains[0].evidence


def test_one_engine_that_chunks_by_default_is_the_baseline_with_chunked_prefill(replicas):
    """What was published for one engine with all the memory had none."""
    records = replicas({"k=1": 90.0, "k=2": 120.0, "all memory": 100.0, "no chunked prefill": 80.0})
    for record in records:
        record.engine.facts["chunked_prefill"] = not record.id.endswith("no chunked prefill")
    found = {one.statement: one.evidence for one in rule.replication_findings(records) if one.scenario == "S10"}
    assert "+50.0 %" in found[rule.BASELINES["all memory"]]
    assert "+20.0 %" in found[rule.BASELINES["chunked prefill"]]


def test_replicas_that_stop_below_a_full_cache(replicas):
    found = list(rule.replication_findings(replicas({"k=1": 100.0, "k=2": 150.0, "k=4": 120.0})))
    assert outcome(found, rule.STOPS) == "does not hold"
    assert outcome(found, rule.TOO_MANY) == "holds"
    full = list(rule.replication_findings(replicas({"k=1": 100.0, "k=2": 150.0, "k=4": 120.0}, full={"k=4": 100.0})))
    assert outcome(full, rule.STOPS) == "holds"


def test_replicas_that_cannot_run_are_the_reason(replicas):
    why = "2 replicas do not fit: so many copies"
    failed = ReplicationRow(replicas=2, batch=8, mode="time-slice", failure=why)
    (alone,) = replicas({"k=1": 100.0})
    first = ReplicationRow(replicas=1, batch=8, mode="time-slice", output_throughput=100.0)
    alone.charts.replication = [first, failed]
    (found,) = rule.replication_findings([alone])
    assert (found.statement, found.outcome) == (rule.PAYS, "not measured")
    assert found.evidence == "2 replicas cannot run: 2 replicas do not fit: so many copies"

    some = replicas({"k=1": 100.0, "k=2": 150.0})
    some[-1].charts.replication = [ReplicationRow(replicas=4, batch=8, mode="time-slice", failure=why)]
    stops = next(one for one in rule.replication_findings(some) if one.statement == rule.STOPS)
    assert stops.evidence.startswith("every further replica still paid, up to 2; 4 replicas cannot run: ")


def test_sharing_modes(replicas):
    sliced = replicas({"k=1": 100.0, "k=2": 110.0})
    shared = replicas({"k=1": 100.0, "k=2": 140.0}, sharing="mps")
    assert outcome(rule.replication_findings(sliced + shared), rule.MODE) == "holds"
    slower = replicas({"k=1": 100.0, "k=2": 90.0}, sharing="mps")
    assert outcome(rule.replication_findings(sliced + slower), rule.MODE) == "does not hold"


def test_knees_of_several_models(sweep):
    small = sweep("max_num_seqs", saturated(scale=0.2), model="opt-125m", requests=2000)
    large = sweep("max_num_seqs", saturated(), test="t.py::test_y", requests=2000)
    assert outcome(across.across_findings([large, small]), across.KNEE_RISES) == "holds"
    swapped = sweep("max_num_seqs", saturated(scale=2.0), model="opt-125m", requests=2000)
    assert outcome(across.across_findings([large, swapped]), across.KNEE_RISES) == "does not hold"
    assert outcome(across.across_findings([large]), across.KNEE_RISES) == "not measured"


def test_model_size_and_graphs(sweep):
    models = sweep("model", {"opt-350m": {"output_throughput": 40.0}, "opt-125m": {"output_throughput": 90.0}})
    assert outcome(across.across_findings([models]), across.SLOWER) == "holds"
    small = sweep("enforce_eager", {"False": {"output_throughput": 3.0}, "True": {"output_throughput": 1.0}},
                  model="opt-125m")  # fmt: skip
    large = sweep("enforce_eager", {"False": {"output_throughput": 1.2}, "True": {"output_throughput": 1.0}},
                  test="t.py::test_y")  # fmt: skip
    found = list(across.across_findings([large, small]))
    assert outcome(found, across.GRAPHS_SMALLER) == "holds"


def test_every_scenario_is_on_the_page(source, sweep):
    found = findings_of([source(sweep("batch", saturated()))])
    assert {one.scenario for one in found} == {f"S{n}" for n in range(1, 14)}
    assert all(one.evidence for one in found)
