"""The loop: how many launches, in which order, until when, and which verdict stands at the end."""

from __future__ import annotations

import math
import random

import pytest

from pytest_slmperf.baselines.lookup import BaselineMatch
from pytest_slmperf.measuring.judge import Noise
from pytest_slmperf.measuring.measurement import Budget, Measurement, not_measured
from pytest_slmperf.measuring.sides import Against
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.model.verdict import LaunchSample, Verdict

BASE = EngineSpec("simulated", "baseline")
DISTURBED = {"cpu_wait_share": 0.5}
LEVEL = 1000.0  # tokens a round, so that a round of one second is 1000 tok/s


def noisy(seed: int, launch: int, number: int, sd: float = 0.002) -> float:
    """A factor about 1: the launch's own, and the round's."""
    rng = random.Random(f"{seed}/{launch}")
    own = rng.gauss(0, sd)
    return math.exp(own + random.Random(f"{seed}/{launch}/{number}").gauss(0, sd))


def history(sd: float = 0.003) -> Noise:
    """A machine with eight calm tests behind it."""
    rng = random.Random(5)
    known = {
        (f"t{test}", "output_throughput"): [
            LaunchSample([LEVEL * math.exp(rng.gauss(0, sd))], session=f"s{session}")
            for session in range(3)
            for _ in range(4)
        ]
        for test in range(8)
    }
    return Noise(lambda fingerprint: known)


@pytest.fixture
def stored(make_result, make_session, make_machine):
    """A baseline of three sessions at the level, found for whatever is asked."""
    from pytest_slmperf.baselines import builder

    def find(result):
        baseline = None
        for session in (1, 2, 3):
            launches = [[LEVEL * noisy(session + 50, launch, number) for number in range(5)] for launch in range(4)]
            kept = make_result("t", output_throughput=launches)
            new = builder.from_result("main", kept, make_session(session), make_machine(), None, None)
            baseline = builder.merged(baseline, new, "extend", kept)
        return BaselineMatch(baseline)

    return find


@pytest.fixture
def measure(context, scripted, make_settings, stored):
    def run(script, *, against=None, find=stored, noise=None, deadline=None, session_deadline=None, **settings):
        context.deadline = session_deadline
        scenario = scripted(script)
        measurement = Measurement(
            context=context,
            scenario=scenario,
            settings=make_settings(**settings),
            test="t",
            alpha=0.01,
            find_baseline=find,
            fingerprint=lambda result: "here",
            noise=noise or history(),
            budget=Budget(context, deadline),
            against=None if against is None else Against(against),
        )
        return measurement.run(), scenario

    return run


def verdict_of(result):
    (verdict,) = result.verdicts
    return verdict


# --- against a stored baseline -----------------------------------------------------------------------------------------


def test_unchanged_code_ends_with_the_launches_asked_for(measure):
    result, _ = measure(lambda model, launch, number: noisy(1, launch, number))
    assert verdict_of(result).verdict == "same"
    assert len(result.launches) == 2


def test_a_regression_is_confirmed_by_fresh_launches(measure, context):
    result, _ = measure(lambda model, launch, number: 1.15 * noisy(2, launch, number))
    verdict = verdict_of(result)
    assert verdict.verdict == "regressed"
    confirmation = verdict.detail["confirmation"]
    assert confirmation["launches"] >= 3
    assert confirmation["after_launches"] + confirmation["launches"] == len(result.launches)
    assert (
        len(set(context.opened)) == len(context.opened) == len(result.launches)
    )  # each launch is a process of its own


def test_a_suspicion_that_fresh_launches_deny_fails_nothing(measure):
    result, _ = measure(lambda model, launch, number: (1.12 if launch < 3 else 1.0) * noisy(3, launch, number))
    assert verdict_of(result).verdict != "regressed"
    assert len(result.launches) > 3


def test_a_hosts_import_is_no_part_of_what_a_launch_takes_and_is_planned_where_one_is_due(measure, context):
    """A launch takes 1 s and 6 rounds of 1 s; each second one imports for 30 s before."""
    context.pool.host_s = 30.0
    script = lambda model, launch, number: noisy(1, launch, number)  # noqa: E731
    result, _ = measure(script, deadline=50.0, launches=4)
    assert len(result.launches) == 2  # the third would import
    assert context.clock.now < 50.0
    result, _ = measure(script, deadline=context.clock.now + 80.0, launches=4)
    assert len(result.launches) == 4


@pytest.fixture
def young(make_result, make_session, make_machine):
    """A baseline of one session, on a machine whose sessions differ by 3 %."""
    from pytest_slmperf.baselines import builder

    def find(result):
        launches = [[LEVEL * noisy(51, launch, number) for number in range(5)] for launch in range(2)]
        kept = make_result("t", output_throughput=launches)
        new = builder.from_result("main", kept, make_session(1), make_machine(), None, None)
        return BaselineMatch(builder.merged(None, new, "extend", kept))

    rng = random.Random(6)
    shifts = {session: rng.gauss(0, 0.03) for session in range(8)}
    known = {
        (f"t{test}", "output_throughput"): [
            LaunchSample([LEVEL * math.exp(shift + rng.gauss(0, 0.003))], session=f"s{session}")
            for session, shift in shifts.items()
            for _ in range(2)
        ]
        for test in range(4)
    }
    return {"find": find, "noise": Noise(lambda fingerprint: known)}


def test_what_more_launches_would_not_tell_takes_no_more_launches(measure, young):
    """4 % off where sessions differ by 3 %: no number of launches would tell, so the time is left to other tests."""
    result, _ = measure(lambda model, launch, number: 1.04 * noisy(1, launch, number), **young)
    assert verdict_of(result).verdict == "inconclusive"
    assert "more launches would not tell" in verdict_of(result).reason
    assert verdict_of(result).more_launches is None
    assert len(result.launches) == 2


def test_a_suspicion_is_followed_up_whatever_the_baseline_is_worth(measure, young):
    result, _ = measure(lambda model, launch, number: 1.25 * noisy(1, launch, number), **young)
    assert verdict_of(result).verdict == "regressed", verdict_of(result).reason
    assert len(result.launches) >= 5


def test_no_change_to_be_seen_is_same_at_the_last_look_however_early(measure, young):
    result, _ = measure(lambda model, launch, number: noisy(1, launch, number), limit={None: 0.1}, **young)
    assert verdict_of(result).verdict == "same"
    assert "ruled out at 95 %" in verdict_of(result).reason
    assert len(result.launches) == 2


def test_launches_end_at_the_most_that_is_allowed(measure):
    result, _ = measure(lambda model, launch, number: 1.03 * noisy(4, launch, number, 0.03), max_launches=5)
    assert verdict_of(result).verdict == "inconclusive"
    assert len(result.launches) == 5
    assert verdict_of(result).more_launches is None or verdict_of(result).more_launches >= 1


def test_no_launch_begins_that_would_end_after_the_tests_time(measure, clock):
    result, _ = measure(lambda model, launch, number: 1.15 * noisy(5, launch, number), deadline=26.0)
    assert clock.now <= 26.0
    assert len(result.launches) == 3  # about seven seconds each; the fourth would end at 28
    verdict = verdict_of(result)
    assert verdict.verdict == "inconclusive"
    assert "the time ended first" in verdict.reason


def test_the_first_launch_is_measured_even_without_time(measure):
    result, _ = measure(lambda model, launch, number: noisy(6, launch, number), deadline=0.0)
    assert len(result.launches) == 1
    assert verdict_of(result).verdict == "inconclusive"
    assert "at least two launches" in verdict_of(result).reason


def test_a_disturbed_launch_is_recorded_and_replaced(measure):
    def script(model, launch, number):
        seconds = noisy(7, launch, number)
        return (seconds, DISTURBED) if launch == 1 else seconds

    result, _ = measure(script)
    assert verdict_of(result).verdict == "same"
    assert [launch.index for launch in result.launches] == [0, 2, 1]
    assert result.discarded_rounds == 6
    assert any("launch 2 is not used" in note for note in result.notes)


def test_a_machine_that_stays_disturbed_is_inconclusive_for_that_reason(measure):
    result, scenario = measure(lambda *_: (1.0, DISTURBED))
    verdict = verdict_of(result)
    assert verdict.verdict == "inconclusive"
    assert verdict.reason.startswith("environment: ")
    assert verdict.gate
    assert len({launch for _, launch, _ in scenario.order}) == 3  # two were asked for, and one too many


def test_without_a_baseline_it_is_new_and_measured_once(measure):
    result, _ = measure(lambda *_: 1.0, find=lambda result: BaselineMatch(None, Verdict.NEW, "nothing stored"))
    assert (verdict_of(result).verdict, verdict_of(result).reason) == ("new", "nothing stored")
    assert len(result.launches) == 2


def test_a_metric_nobody_can_read_is_named_and_does_not_gate(measure, scripted):
    result, _ = measure(lambda model, launch, number: noisy(8, launch, number),
                        gate=frozenset({"output_throughput", "energy_per_output_token"}))  # fmt: skip
    by_metric = {verdict.metric: verdict for verdict in result.verdicts}
    assert by_metric["output_throughput"].verdict == "same"
    energy = by_metric["energy_per_output_token"]
    assert (energy.verdict, energy.gate) == ("incomparable", False)
    assert "no meter here" in energy.reason


def test_quarantine_judges_and_does_not_gate(measure):
    result, _ = measure(lambda model, launch, number: 1.15 * noisy(2, launch, number), quarantined="listed")
    assert (verdict_of(result).verdict, verdict_of(result).gate) == ("regressed", False)


def test_a_test_whose_turn_comes_too_late_has_no_figure(context, scripted, make_settings):
    result = not_measured(context, scripted(lambda *_: 1.0), make_settings(), "t")
    assert verdict_of(result).verdict == "inconclusive"
    assert "--slmperf-max-time" in verdict_of(result).reason
    assert result.metrics["output_throughput"].value is None
    assert context.opened == []


# --- duet ----------------------------------------------------------------------------------------------------------------


def test_rounds_go_abba_and_the_side_that_starts_and_begins_changes(measure, context):
    result, scenario = measure(lambda model, launch, number: noisy(len(model), launch, number), against=BASE)
    orders = {launch: "".join(model[0] for model, at, _ in scenario.order if at == launch) for launch in (0, 1)}
    assert orders[0].startswith("bccbbccbbccb")  # each side goes on alone when only it still wants rounds
    assert orders[1].startswith("cbbccbbccbbc")
    # an engine that starts beside another is not where one is that starts alone
    assert context.opened[:4] == [("baseline", 0), ("candidate", 0), ("candidate", 1), ("baseline", 1)]
    assert verdict_of(result).verdict == "same"


def test_drift_that_both_sides_share_cancels(measure, clock):
    """The machine slows down by 40 % over the session."""
    result, _ = measure(
        lambda model, launch, number: (1 + clock.now / 200) * noisy(len(model), launch, number), against=BASE
    )
    assert verdict_of(result).verdict == "same"
    low, high = verdict_of(result).ci
    assert low < 0 < high < 0.02  # and not the drift's 40 %


def test_a_slower_candidate_regresses_in_a_duet(measure):
    def script(model, launch, number):
        return (1.1 if model == "candidate" else 1.0) * noisy(len(model), launch, number)

    result, _ = measure(script, against=BASE)
    verdict = verdict_of(result)
    assert verdict.verdict == "regressed"
    assert verdict.change == pytest.approx(1 / 1.1 - 1, abs=0.01)
    assert verdict.detail["confirmation"]["launches"] >= 3
    sides = [launch.side for launch in result.launches]
    assert sides.count("baseline") == sides.count("candidate")


def test_a_round_disturbed_on_one_side_is_measured_again_there(measure):
    def script(model, launch, number):
        seconds = noisy(len(model), launch, number)
        return (seconds, DISTURBED) if (model, launch, number) == ("baseline", 0, 3) else seconds

    result, _scenario = measure(script, against=BASE)
    rounds = {launch.side: launch.rounds for launch in result.launches if launch.index == 0}
    assert [bool(round_.contaminated) for round_ in rounds["baseline"]].index(True) == 3
    clean = {side: sum(1 for round_ in found if not round_.contaminated) for side, found in rounds.items()}
    assert min(clean.values()) >= 6  # the first, which never counts, and five
    assert result.verdicts[0].detail["launches"] == {"candidate": 2, "baseline": 2}


def test_a_pair_with_one_spoilt_side_counts_for_neither(measure):
    def script(model, launch, number):
        seconds = noisy(len(model), launch, number)
        return (seconds, DISTURBED) if (model, launch) == ("baseline", 0) else seconds

    result, _ = measure(script, against=BASE)
    verdict = verdict_of(result)
    assert verdict.verdict == "same"
    assert verdict.detail["launches"] == {"candidate": 2, "baseline": 2}
    assert [launch.index for launch in result.launches if launch.side == "candidate"] == [1, 2, 0]


def test_a_duet_that_the_machine_ended_says_so_and_does_not_blame_the_time(measure):
    def script(model, launch, number):
        seconds = (1.06 if model == "candidate" else 1.0) * noisy(len(model), launch, number)
        return (seconds, DISTURBED) if (model, launch >= 2) == ("baseline", True) else seconds

    result, _ = measure(script, against=BASE, max_launches=9, noise=history(0.03))
    verdict = verdict_of(result)
    assert verdict.verdict == "inconclusive"
    assert "over 2 launch pairs: environment: too many others were spoilt, the last with" in verdict.reason


def test_a_duet_goes_on_while_as_many_launches_can_be_used_as_are_spoilt(measure):
    def script(model, launch, number):
        seconds = (1.06 if model == "candidate" else 1.0) * noisy(len(model), launch, number, 0.01)
        return (seconds, DISTURBED) if (model, launch % 2) == ("baseline", 1) else seconds

    result, _ = measure(script, against=BASE, max_launches=9, noise=history(0.01))
    assert verdict_of(result).verdict == "regressed", verdict_of(result).reason


def test_a_finished_duet_tells_the_next_test_how_noisy_pairs_are(measure):
    noise = history()
    measure(lambda model, launch, number: noisy(len(model), launch, number), against=BASE, noise=noise, launches=4)
    assert noise.pairs["t", "output_throughput"][0][0].pair == 0
    assert len(noise.pairs["t", "output_throughput"][1]) == 4
