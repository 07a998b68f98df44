"""One test's comparison: verdicts, phases, pairs, bad input."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.judging import rule as product
from pytest_slmperf.judging.comparison import Comparison, session_alpha, smallest_found
from pytest_slmperf.model.verdict import Gate, LaunchSample
from pytest_slmperf.statistics.estimate import Estimate
from pytest_slmperf.statistics.variance import STATED_PRIOR, VariancePrior, estimate_prior

QUIET = VariancePrior(1e-4, 60, 2e-4, 60, 2.5e-5, 30, "history: a quiet machine")
THROUGHPUT = Gate("output_throughput", "higher")
ENERGY = Gate("energy_per_output_token", "lower")


class Machine:
    """Draws launches of one metric with between-launch and within-launch noise."""

    def __init__(self, seed: int, between: float = 0.01, within: float = 0.01, rounds: int = 10) -> None:
        self.rng = np.random.default_rng(seed)
        self.between, self.within, self.rounds = between, within, rounds

    def launch(self, level: float, session: str = "now", pair: int | None = None, bound: float = 0.0) -> LaunchSample:
        noise = self.rng.normal(0, self.between) + self.rng.normal(0, self.within, self.rounds)
        return LaunchSample([float(v) for v in level * np.exp(noise)], session, pair, bound)

    def baseline(self, level: float, sessions: int = 4, launches: int = 4) -> list[LaunchSample]:
        return [self.launch(level, f"s{i}") for i in range(sessions) for _ in range(launches)]


def measure(comparison, machine, levels, base_levels=None, limit=99):
    """Run the measuring loop to its end; all decisions."""
    candidate: dict[str, list] = {metric: [] for metric in levels}
    baseline: dict[str, list] = {metric: [] for metric in levels}
    decisions, ahead = [], comparison.first_launches
    while True:
        for _ in range(ahead):
            for metric, level in levels.items():
                pair = len(candidate[metric])
                candidate[metric].append(machine.launch(level, pair=pair))
                if base_levels:
                    baseline[metric].append(machine.launch(base_levels[metric], pair=pair))
        final = len(next(iter(candidate.values()))) >= limit
        decisions.append(comparison.decide(candidate, baseline if base_levels else None, final=final))
        if decisions[-1].done:
            return decisions
        ahead = decisions[-1].next_launches
        assert ahead >= 1


def by_metric(decision):
    return {judgement.metric: judgement for judgement in decision.judgements}


def test_stored_baseline_unchanged_is_same():
    machine = Machine(1)
    comparison = Comparison(
        [THROUGHPUT], {"output_throughput": machine.baseline(100)}, alpha=0.00025, mode="stored", prior=QUIET
    )
    (judgement,) = measure(comparison, machine, {"output_throughput": 100})[-1].judgements
    assert judgement.verdict == "same"
    assert judgement.ci[0] < 0 < judgement.ci[1]
    assert judgement.ci[0] > -0.05  # a slowdown of the limit is ruled out
    assert "ruled out" in judgement.reason


@pytest.mark.parametrize("mode", ["stored", "duet"])
def test_slowdown_is_regressed_only_after_confirmation_by_fresh_launches(mode):
    machine = Machine(2)
    baseline = {"output_throughput": machine.baseline(100)} if mode == "stored" else {}
    comparison = Comparison([THROUGHPUT], baseline, alpha=0.00025, mode=mode, prior=QUIET)
    bases = {"output_throughput": 100} if mode == "duet" else None
    decisions = measure(comparison, machine, {"output_throughput": 88}, bases)
    (judgement,) = decisions[-1].judgements
    assert judgement.verdict == "regressed"
    assert -0.17 < judgement.ci[0] < judgement.change < judgement.ci[1] < -0.01
    confirming = [d for d in decisions if d.phase == "confirm"]
    assert confirming
    assert all(d.fresh and not d.done for d in confirming)
    assert judgement.detail["confirmation"]["launches"] >= 3
    assert judgement.detail["confirmation"]["worse_by_at_least"] > 0.01


def test_direction_is_the_metric_s():
    machine = Machine(3)
    comparison = Comparison([THROUGHPUT, ENERGY], {}, alpha=0.00025, mode="duet", prior=QUIET)
    levels = {"output_throughput": 110, "energy_per_output_token": 2.2}
    decision = measure(comparison, machine, levels, {"output_throughput": 100, "energy_per_output_token": 2.0})[-1]
    judgements = by_metric(decision)
    assert judgements["output_throughput"].verdict == "improved"
    assert judgements["energy_per_output_token"].verdict == "regressed"
    assert judgements["output_throughput"].change == pytest.approx(0.10, abs=0.03)
    assert judgements["energy_per_output_token"].change == pytest.approx(0.10, abs=0.03)


def test_a_suspicion_that_fresh_launches_deny_does_not_fail():
    """Two slow launches at the start (a neighbour that left) are suspicious, the rest is as before."""
    machine = Machine(4)
    comparison = Comparison(
        [THROUGHPUT], {"output_throughput": machine.baseline(100)}, alpha=0.00025, mode="stored", prior=QUIET
    )
    candidate = [machine.launch(94), machine.launch(94.5)]
    first = comparison.decide({"output_throughput": candidate})
    assert (first.phase, first.fresh, first.done) == ("confirm", True, False)
    decision = first
    while not decision.done:
        candidate += [machine.launch(100.0) for _ in range(decision.next_launches)]
        decision = comparison.decide({"output_throughput": candidate})
    (judgement,) = decision.judgements
    assert judgement.verdict == "same"
    assert "not confirmed" in judgement.reason


def test_time_out_is_inconclusive_and_says_how_many_more():
    machine = Machine(5, between=0.03)
    comparison = Comparison([THROUGHPUT], {}, alpha=0.00025, mode="duet")
    decision = measure(comparison, machine, {"output_throughput": 97}, {"output_throughput": 100}, limit=3)[-1]
    (judgement,) = decision.judgements
    assert judgement.verdict == "inconclusive"
    assert judgement.more_launches >= 1
    assert str(judgement.more_launches) in judgement.reason


def test_one_launch_never_gives_a_verdict():
    machine = Machine(6, between=0, within=0.001)
    baseline = {"output_throughput": machine.baseline(100)}
    comparison = Comparison([THROUGHPUT], baseline, alpha=0.00025, mode="stored", prior=QUIET)
    decision = comparison.decide({"output_throughput": [machine.launch(50)]}, final=True)
    assert decision.done
    assert decision.judgements[0].verdict == "inconclusive"


def test_session_effects_enter_the_interval_of_a_stored_baseline():
    def width(spread):
        machine = Machine(7)
        levels = [100 * math.exp(spread * x) for x in (-1.2, -0.4, 0.4, 1.2)]
        baseline = [machine.launch(level, f"s{i}") for i, level in enumerate(levels) for _ in range(4)]
        comparison = Comparison(
            [THROUGHPUT], {"output_throughput": baseline}, alpha=0.00025, mode="stored", prior=QUIET
        )
        comparison.decide({"output_throughput": [machine.launch(100) for _ in range(4)]}, final=True)
        return comparison.decide({}, final=True).judgements[0].detail["session_and_baseline_sd_percent"]

    assert width(0.03) > 1.5 * width(0.0)


def test_error_bound_of_readings_widens_the_interval():
    def width(bound):
        machine = Machine(8)
        comparison = Comparison([ENERGY], {}, alpha=0.00025, mode="duet", prior=QUIET)
        sides = [[machine.launch(2, pair=i, bound=bound) for i in range(4)] for _ in range(2)]
        (judgement,) = comparison.decide({ENERGY.metric: sides[0]}, {ENERGY.metric: sides[1]}, final=True).judgements
        return judgement.ci[1] - judgement.ci[0]

    assert width(0.05) > 1.5 * width(0.0)


def test_duet_ties_launches_by_pair_number_and_drops_the_half_pair():
    machine = Machine(9, between=0, within=0.001)
    drift = [100, 60, 140, 90]
    candidate = [machine.launch(level, pair=i) for i, level in enumerate(drift)]
    baseline = [machine.launch(level, pair=i) for i, level in enumerate(drift[:3])][::-1]
    comparison = Comparison([THROUGHPUT], {}, alpha=0.00025, mode="duet", prior=QUIET)
    (judgement,) = comparison.decide(
        {THROUGHPUT.metric: candidate}, {THROUGHPUT.metric: baseline}, final=True
    ).judgements
    assert judgement.detail["launches"] == {"candidate": 3, "baseline": 3}
    assert judgement.change == pytest.approx(0, abs=0.005)


def test_missing_sides():
    machine = Machine(10)
    comparison = Comparison(
        [THROUGHPUT, ENERGY], {"output_throughput": machine.baseline(100)}, alpha=0.001, mode="stored"
    )
    decision = comparison.decide({ENERGY.metric: [machine.launch(2)]})
    verdicts = {judgement.metric: judgement.verdict for judgement in decision.judgements}
    assert verdicts == {"output_throughput": "incomparable", "energy_per_output_token": "new"}
    assert decision.done
    assert all(judgement.change is None for judgement in decision.judgements)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, None, "3"])
def test_readings_without_a_logarithm_are_refused_by_name(value):
    machine = Machine(11)
    comparison = Comparison([THROUGHPUT], {"output_throughput": machine.baseline(100)}, alpha=0.001, mode="stored")
    samples = [machine.launch(100), LaunchSample([99.0, value])]
    with pytest.raises(InvalidInput, match="output_throughput, candidate launch 2"):
        comparison.decide({"output_throughput": samples})


@pytest.mark.parametrize(
    ("tolerance", "limit", "said"),
    [(0.05, 0.01, "above the tolerance"), (-0.1, 0.05, "negative"), (1, 5, "write 0.05"), (math.nan, 0.05, "number")],
)
def test_wrong_margins(tolerance, limit, said):
    with pytest.raises(InvalidInput, match=said):
        Comparison([Gate("ttft_p99", "lower", tolerance, limit)], {}, alpha=0.01, mode="duet")


@pytest.mark.parametrize("alpha", [0, -0.1, 0.5, 1, math.nan, True])
def test_wrong_alpha(alpha):
    with pytest.raises(InvalidInput, match=r"between 0 and 0\.5"):
        session_alpha(alpha, 40)
    with pytest.raises(InvalidInput, match=r"between 0 and 0\.5"):
        Comparison([THROUGHPUT], {}, alpha=alpha, mode="duet")


def test_the_sessions_error_is_divided():
    assert session_alpha(0.01, 40) == pytest.approx(0.00025)
    with pytest.raises(InvalidInput):
        session_alpha(0.01, 0)


@pytest.mark.parametrize(("own_se", "verdict"), [(0.002, "regressed"), (0.006, "open")])
def test_a_quiet_history_alone_carries_no_regression(own_se, verdict):
    """History says 0.3 %; a regression also needs the launches' own scatter to say so."""
    rule = product.Rule(1, math.log(1.01), math.log(1.05), 0.00025, 0.01, 16)

    def seen(launches):
        one = np.ones(1)
        own_df = one * (launches - 1)
        flags = np.zeros(1, dtype=bool)
        unit = 1e-4 * one
        return Estimate(0.035 * one, 0.003 * one, 100 * one, launches * one, unit, 0 * one, flags, own_se * one, own_df)

    rule.look(2, seen(2), seen(0))
    assert rule.suspected_at[0] == 2
    for launches in (3, 4, 5, 6):
        rule.look(launches, seen(launches), seen(launches - 2))
    assert product.VERDICTS[rule.verdict[0]] == verdict


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "same"), (0.7, "regressed"), (1.3, "improved"), (0.995, "same")])
@pytest.mark.parametrize("mode", ["stored", "duet"])
def test_rounds_without_any_scatter(mode, factor, verdict):
    """The simulated engine repeats itself to the last digit."""

    def launches(level):
        return [LaunchSample([level] * 5, "now", i) for i in range(16)]

    calm = estimate_prior({f"t{i}": launches(100.0) for i in range(4)})
    assert calm.launch_df > STATED_PRIOR.launch_df
    full = launches(100.0)
    for prior in (None, calm):
        comparison = Comparison([THROUGHPUT], {THROUGHPUT.metric: full}, alpha=0.0005, mode=mode, prior=prior)
        done, decision = 0, None
        while decision is None or not decision.done:
            done += decision.next_launches if decision else comparison.first_launches
            base = {THROUGHPUT.metric: full[:done]} if mode == "duet" else None
            decision = comparison.decide({THROUGHPUT.metric: launches(100.0 * factor)[:done]}, base)
        assert decision.judgements[0].verdict == verdict


def test_each_metric_may_have_a_prior_of_its_own():
    comparison = Comparison([THROUGHPUT, ENERGY], {}, alpha=0.01, mode="duet", prior={ENERGY.metric: QUIET})
    machine = Machine(14)
    samples = {gate.metric: [machine.launch(2, pair=i) for i in range(2)] for gate in (THROUGHPUT, ENERGY)}
    judgements = by_metric(comparison.decide(samples, samples))
    assert judgements[ENERGY.metric].detail["prior"]["source"] == QUIET.source
    assert judgements[THROUGHPUT.metric].detail["prior"]["source"] == STATED_PRIOR.source


def test_pairs_that_do_not_fit_together_are_named():
    gate = Gate("output_throughput", "higher")
    sample = lambda pair: LaunchSample([100.0], pair=pair)  # noqa: E731
    duet = Comparison([gate], {}, alpha=0.01, mode="duet")
    with pytest.raises(InvalidInput, match="candidate: two launches have the same pair number"):
        duet.decide({gate.metric: [sample(0), sample(0)]}, {gate.metric: [sample(0)]})
    apart = duet.decide({gate.metric: [sample(0)]}, {gate.metric: [sample(1)]}, final=True).judgements[0]
    assert (apart.verdict, apart.reason) == ("incomparable", "no launch pair has clean readings on both sides")


@pytest.mark.parametrize(
    ("gate", "more", "message"),
    [
        (Gate("m", "up"), {}, "m: better must be 'higher' or 'lower'"),  # type: ignore[arg-type]
        (Gate("m", "lower"), {"max_launches": 2.5}, "max_launches must be a whole number"),
    ],
)
def test_what_makes_no_sense_is_refused(gate, more, message):
    with pytest.raises(InvalidInput, match=message):
        Comparison([gate], {}, alpha=0.01, mode="stored", **more)


@pytest.mark.parametrize("mode", ["stored", "duet"])
def test_no_verdict_contradicts_its_interval(mode):
    """Also where a session makes one comparison only, whose share of the error is then the larger one."""
    rng = np.random.default_rng(8)
    seen = set()
    for change in np.linspace(-0.15, 0.15, 40):
        base, new = (
            [LaunchSample([level * math.exp(rng.normal(0, 0.01))], session="a", pair=n) for n in range(5)]
            for level in (100.0, 100.0 * (1 + change))
        )
        comparison = Comparison([THROUGHPUT], {THROUGHPUT.metric: base}, alpha=0.4, mode=mode, confirm=False)
        judged = comparison.decide({THROUGHPUT.metric: new}, {THROUGHPUT.metric: base}, final=True).judgements[0]
        seen.add(judged.verdict)
        low, high = judged.ci
        assert judged.verdict != "regressed" or high < -0.009
        assert judged.verdict != "improved" or low > 0.009
    assert {"regressed", "improved"} <= seen


def on_hosts(samples: list[LaunchSample], hosts: list[str | None]) -> list[LaunchSample]:
    return [replace(sample, host=host) for sample, host in zip(samples, hosts, strict=True)]


@pytest.mark.parametrize(
    ("hosts", "verdict"),
    [
        (["a"] * 8, "inconclusive"),
        (["a", "b", "b", "a", "b", "a", "a", "b"], "inconclusive"),  # none of those that confirm is new
        (["a", "b", "b", "a", "c", "d", "d", "c"], "regressed"),
        ([None] * 8, "regressed"),
        (["a", "b", None, None, None, None, None, None], "regressed"),  # forks were given up
    ],
)
@pytest.mark.parametrize("mode", ["stored", "duet"])
def test_a_regression_takes_two_hosts_a_side_and_a_new_one_in_its_confirmation(mode, hosts, verdict):
    machine = Machine(5, between=0.002, within=0.002)
    slower = on_hosts([machine.launch(60.0, pair=pair) for pair in range(8)], hosts)
    as_fast = [machine.launch(100.0, pair=pair) for pair in range(8)]
    base = on_hosts(as_fast, hosts) if mode == "duet" else on_hosts(as_fast[:4], ["p", "q", "q", "p"])
    comparison = Comparison([THROUGHPUT], {THROUGHPUT.metric: base}, alpha=0.0005, mode=mode, prior=QUIET)
    done, decision = 0, None
    while decision is None or not decision.done:
        done += decision.next_launches if decision else comparison.first_launches
        sides = [{THROUGHPUT.metric: slower[:done]}, {THROUGHPUT.metric: base[:done]} if mode == "duet" else None]
        decision = comparison.decide(*sides, final=done >= 8)
    judgement = decision.judgements[0]
    assert judgement.verdict == verdict
    if verdict == "inconclusive":
        assert "launch host" in judgement.reason


def test_a_baseline_from_a_single_host_bears_no_regression():
    machine = Machine(6, between=0.002, within=0.002)
    slower = on_hosts([machine.launch(60.0) for _ in range(8)], ["a", "b", "b", "a", "c", "d", "d", "c"])
    base = on_hosts([machine.launch(100.0, "before") for _ in range(4)], ["p"] * 4)
    comparison = Comparison([THROUGHPUT], {THROUGHPUT.metric: base}, alpha=0.0005, mode="stored", prior=QUIET)
    for done in range(2, 9):
        decision = comparison.decide({THROUGHPUT.metric: slower[:done]}, final=done == 8)
    assert decision.judgements[0].verdict == "inconclusive"


@pytest.mark.parametrize("launches", [8, 16])
def test_the_smallest_slowdown_that_is_foreseen_is_found_in_about_four_of_five_sessions(launches):
    found = []
    for seed in range(60):
        machine = Machine(seed)
        baseline = machine.baseline(100.0)
        shown = {"alpha": 0.001, "mode": "stored", "launches": launches}
        slowdown = smallest_found(THROUGHPUT, baseline, QUIET, **shown)
        comparison = Comparison(
            [THROUGHPUT],
            {"output_throughput": baseline},
            alpha=0.001,
            mode="stored",
            prior=QUIET,
            max_launches=launches,
        )
        last = measure(comparison, machine, {"output_throughput": 100.0 / (1 + slowdown)}, limit=launches)[-1]
        found.append(last.judgements[0].verdict == "regressed")
    assert 0.6 < np.mean(found) <= 1.0


def test_more_launches_find_smaller_slowdowns_and_more_noise_larger_ones():
    def slowdown(between: float, launches: int, mode: Literal["stored", "duet"] = "stored") -> float:
        baseline = Machine(1, between).baseline(100.0)
        prior = replace(QUIET, launch_var=between**2, pair_var=2 * between**2)
        found = smallest_found(THROUGHPUT, baseline, prior, alpha=0.001, mode=mode, launches=launches)
        assert found is not None
        return found

    assert 0.01 < slowdown(0.01, 16) < slowdown(0.01, 6) < slowdown(0.05, 6)
    assert slowdown(0.01, 16, "duet") < slowdown(0.05, 16, "duet")


def test_fewer_launches_than_a_confirmation_takes_find_nothing():
    baseline = Machine(1).baseline(100.0)
    assert smallest_found(THROUGHPUT, baseline, QUIET, alpha=0.001, mode="stored", launches=4) is None
    assert smallest_found(THROUGHPUT, [], QUIET, alpha=0.001, mode="stored", launches=8) is None
