"""One launch: which rounds count, which are measured again, and when it ends."""

from __future__ import annotations

import dataclasses
import random
from types import SimpleNamespace

import pytest

from pytest_slmperf.measuring.evidence_checks import Limits
from pytest_slmperf.measuring.launch import MAX_WARMUP, LaunchRun
from pytest_slmperf.model.engine_spec import EngineSpec

SPEC = EngineSpec("simulated", "candidate")
DISTURBED = {"cpu_wait_share": 0.5}
UNDISTURBED = Limits(**{check.name: None for check in dataclasses.fields(Limits)})
CALM = (1.0, 1.002, 0.998, 1.001, 0.999)


def calm(number: int) -> float:
    return CALM[number % len(CALM)]


@pytest.fixture
def measure(context, scripted, make_settings):
    """Measures one launch by a script of (round number) and returns what was measured and the scenario."""

    def run(script, **settings):
        scenario = scripted(lambda model, launch, number: script(number))
        with LaunchRun(context, scenario, make_settings(**settings), SPEC, 0, "t") as launch:
            while launch.wants_more():
                launch.round()
        return launch.measured, scenario

    return run


def kept(measured) -> list[float]:
    return [outcome.t_end - outcome.t_start for outcome in measured.outcomes]


def test_the_first_round_never_counts(measure):
    measured, scenario = measure(calm)
    assert len(scenario.order) == 6
    assert kept(measured) == pytest.approx([calm(number) for number in range(1, 6)])
    assert measured.launch.warmup_rounds == 1
    assert measured.unfit is None


def test_slow_rounds_at_the_start_are_warm_up(measure):
    measured, _ = measure(lambda number: calm(number) * (1.5, 1.3, 1.1, 1.05)[number] if number < 4 else calm(number))
    assert measured.launch.warmup_rounds == 4
    assert max(kept(measured)) < 1.01
    assert len(kept(measured)) >= 5


def test_a_disturbed_round_is_measured_again(measure):
    measured, scenario = measure(lambda number: (calm(number), DISTURBED) if number in (2, 4) else calm(number))
    assert len(kept(measured)) == 5
    assert len(scenario.order) == 8
    reasons = [round_.contaminated for round_ in measured.launch.rounds]
    assert [number for number, reason in enumerate(reasons) if reason] == [2, 4]
    assert "waited for a CPU in 50 %" in reasons[2]


def test_disturbance_is_judged_by_evidence_and_not_by_the_value(measure):
    measured, _ = measure(lambda number: 3.0 if number == 3 else calm(number))
    assert 3.0 in kept(measured)


def test_a_limit_that_the_user_switched_off_discards_nothing(measure):
    off = {"cpu_wait_share": None, "cpu_wait_above_usual": None}
    measured, scenario = measure(lambda number: (calm(number), DISTURBED) if number == 2 else calm(number),
                                 evidence_limits=off)  # fmt: skip
    assert len(scenario.order) == 6
    assert measured.unfit is None


def test_measuring_again_has_a_bound_and_then_the_launch_is_unfit(measure):
    measured, scenario = measure(lambda number: (calm(number), DISTURBED))
    assert len(scenario.order) == 6  # as many as were wanted, and the one that is too many
    assert "6 of 6 rounds were disturbed" in measured.unfit


def test_rounds_that_never_settle_end_with_a_note(measure):
    measured, scenario = measure(lambda number: 1.03**number)
    assert len(scenario.order) == 5 + MAX_WARMUP
    assert measured.unfit is None
    assert "not steady" in measured.notes[0]


def test_noisy_rounds_get_more_of_them_up_to_the_most(measure):
    rng = random.Random(1)
    measured, _ = measure(lambda number: rng.gauss(1, 0.04), most_rounds=12)
    assert len(kept(measured)) == 12


def test_progress_tells_rounds_that_are_repeated_for_the_energy_bound(context, scripted, make_settings, lend_meter):
    """It read "rounds 101/2, 0 s left"."""
    shown = []
    context.progress = SimpleNamespace(update=lambda *args, **more: shown.append((args[1:4], more)))
    lend_meter(bound_j=12.0)  # 2 % of six seconds at 100 W
    scenario = scripted(lambda *_: 1.0)
    with LaunchRun(context, scenario, make_settings(energy_bound=0.0201), SPEC, 0, "t", limits=UNDISTURBED) as launch:
        while launch.wants_more():
            launch.round()
    assert shown[-2][0] == ("rounds", 5, 5)
    assert shown[-1] == (("rounds until the energy bound is reached:", 6, 0), {})


def test_the_deadline_ends_a_launch_between_rounds(context, measure):
    context.deadline = 4.5  # one second goes into the start
    measured, scenario = measure(calm)
    assert len(scenario.order) == 4
    assert measured.unfit == "the session's time ended after 3 of 5 rounds"


def test_one_round_is_measured_even_when_the_start_took_all_the_time(context, measure):
    context.deadline = 0.5
    _, scenario = measure(calm)
    assert len(scenario.order) == 1


def test_an_interrupted_launch_gives_its_engine_back_and_claims_nothing(context, scripted, make_settings):
    def script(model, launch, number):
        if number == 2:
            raise KeyboardInterrupt
        return 1.0

    launch = LaunchRun(context, scripted(script), make_settings(), SPEC, 0, "t")

    def run() -> None:
        with launch:
            while launch.wants_more():
                launch.round()

    with pytest.raises(KeyboardInterrupt):
        run()
    assert context.closed == context.opened == [("candidate", 0)]
    assert launch.measured.outcomes == []


def test_without_a_meter_the_reason_is_kept(context, scripted, make_settings):
    with LaunchRun(context, scripted(lambda *_: 1.0), make_settings(), SPEC, 0, "t") as launch:
        launch.round()
    assert launch.measured.energy_reason == "no meter here"
    assert launch.measured.energy is None


def test_looks_at_the_energy_bound_stand_seldom_between_two_rounds(context, scripted, make_settings, lend_meter):
    """A look that costs as much as a round would otherwise double the gaps that the meter sees."""
    meter = lend_meter(bound_j=0.82, look_s=0.01)  # 2 % of 41 rounds of 10 ms at 100 W
    settings = make_settings(energy_bound=0.02)
    with LaunchRun(context, scripted(lambda *_: 0.01), settings, SPEC, 0, "t", limits=UNDISTURBED) as launch:
        while launch.wants_more():
            launch.round()
        assert 2 <= meter.looks <= 6
    assert 40 < len(launch.measured.outcomes) <= 61
