"""Measures one scenario of a test, with its settings, its baseline, and its shares of the session's time and alpha."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_slmperf.baselines.lookup import BaselineMatch, find
from pytest_slmperf.energy.round_energy import costs
from pytest_slmperf.environment.fingerprint import of as fingerprint_of
from pytest_slmperf.judging.launch_planning import alpha_share
from pytest_slmperf.measuring.measurement import Budget, Measurement, not_measured
from pytest_slmperf.measuring.studies.adaptive_sweep import SweepMeasurement
from pytest_slmperf.model.result import Result
from pytest_slmperf.pytest_plugin import setting_table, settings
from pytest_slmperf.pytest_plugin.context import SessionContext
from pytest_slmperf.pytest_plugin.merge_base import add_notes, other_side
from pytest_slmperf.pytest_plugin.test_state import TEST
from pytest_slmperf.scenarios.base import Scenario
from pytest_slmperf.scenarios.sweep import Sweep

# Which class measures a scenario.


def measurement_of(scenario: Scenario) -> type[Measurement]:
    """The class that measures ``scenario``: a sweep has several points, every other scenario a single point."""
    return SweepMeasurement if isinstance(scenario, Sweep) else Measurement


def measure_scenario(
    context: SessionContext,
    item: pytest.Item,
    scenario: Scenario,
    result_id: str,
    number: int,
    keep: Callable[[Result], None],
) -> Result:
    """The record of one measured scenario, with verdicts.

    ``number``: 0 for the test's first scenario, rising. ``keep``: receives what is left of an interrupted measurement.
    """
    config, measuring, time_budget = context.config, context.measuring, context.budget
    chosen = settings.resolve(config, item.nodeid, setting_table.merged(item), item.stash[TEST].spec)
    against = other_side(context, item.nodeid, chosen.spec)
    if measuring.time_left() <= 0:
        return not_measured(measuring, scenario, chosen, result_id, time_budget.expected.get(item.nodeid))

    looked_up: list[BaselineMatch] = []

    def find_baseline(result: Result) -> BaselineMatch:
        if context.base is not None:
            return context.base.nothing_to_compare(item.nodeid)
        name, across = setting_table.value(config, "baseline"), tuple(setting_table.value(config, "across"))
        match = find(context.store, context.machine, result, name, across, context.record)
        if not match.comparable and context.provisional is not None:
            match = context.provisional.instead_of(match, context.machine, result, context.record)
        looked_up.append(match)
        return match

    budget = Budget(measuring, *time_budget.ends(item.nodeid, chosen.max_time, measuring.clock()))
    measurement = measurement_of(scenario)(
        context=measuring,
        scenario=scenario,
        settings=chosen,
        test=result_id,
        alpha=alpha_share(float(setting_table.value(config, "alpha")), max(1, len(time_budget.tests)), number),
        find_baseline=find_baseline,
        fingerprint=lambda result: fingerprint_of(context.machine, result.engine),
        noise=context.noise,
        budget=budget,
        against=against,
    )
    try:
        result: Result = measurement.run()
    except (KeyboardInterrupt, pytest.exit.Exception):  # Ctrl-C, SIGTERM
        if isinstance(measurement, SweepMeasurement) and (left := measurement.interrupted()) is not None:
            keep(left)
        raise
    if provisional := [match for match in looked_up if match.provisional]:
        for record in result.verdicts:
            record.provisional = record.baseline is not None or not provisional[-1].comparable
    time_budget.add_measured(item.nodeid, budget.launch_seconds[: chosen.launches], measuring.clock())
    result.launch_s = longest = max(budget.launch_seconds, default=None)
    bounded_itself = chosen.max_time is not None and sum(budget.launch_seconds) + (longest or 0.0) > chosen.max_time
    if time_budget.deadline is not None and not bounded_itself:
        result.launches_short = max(0, chosen.launches - len(budget.launch_seconds))
    add_notes(context, item.nodeid, result)
    _add_cost(config, result)
    return result


def _add_cost(config: pytest.Config, result: Result) -> None:
    """Add cost and emissions if the user gave a price or the grid's figure: neither is ever guessed."""
    per_token = result.metrics.get("energy_per_output_token")
    result.energy.cost = costs(
        result.energy.joules,
        per_token.value if per_token else None,
        setting_table.value(config, "price-per-kwh"),
        setting_table.value(config, "carbon-g-per-kwh"),
    )
