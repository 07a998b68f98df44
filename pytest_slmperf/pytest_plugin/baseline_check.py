"""The stored baselines, read before the first engine starts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_slmperf.baselines.store import Store
from pytest_slmperf.errors import InvalidInput, SlmperfError
from pytest_slmperf.metrics.registry import known, metric
from pytest_slmperf.model.baseline import Baseline
from pytest_slmperf.pytest_plugin import marker, options, settings
from pytest_slmperf.pytest_plugin.context import SessionContext
from pytest_slmperf.pytest_plugin.test_state import TEST


def check_baselines(context: SessionContext, items: Sequence[pytest.Item]) -> None:
    """Read the stored baselines; where one cannot be read, each test fails with the reason.

    All names that this session compares with or saves under, whatever the test: their launches show how noisy the
    machine is, and every verdict rests on that.
    """
    compared, saved = options.value(context.config, "baseline"), options.value(context.config, "save")
    try:
        for name in dict.fromkeys(filter(None, (compared, saved))):
            baselines = context.store.all(name)
            if not baselines and name == compared:
                context.notes += _other_names(context.store, name)
            for baseline in baselines:
                context.notes += _unknown_metrics(baseline)
                if name == compared and context.budget.deadline is not None:
                    _expect(context, items, baseline)
    except (SlmperfError, OSError) as error:
        for item in items:
            item.stash[TEST].refused = f"the baselines cannot be read, so nothing was measured: {error}"


def _other_names(store: Store, name: str) -> list[str]:
    """A note where no baseline has the name and some have others: it may be a typing error."""
    try:
        names = sorted({baseline.name for baseline in store.all()})
    except SlmperfError:  # irrelevant to a session that does not compare with it
        return []
    return [f"no baseline has the name {name!r}; stored are {', '.join(map(repr, names))}"] if names else []


def _unknown_metrics(baseline: Baseline) -> list[str]:
    """A note for each stored metric that nothing here measures: another version's, or a typing error."""
    notes = []
    for name in sorted({name for session in baseline.sessions for name in session.metrics if known(name) is None}):
        try:
            metric(name)
        except InvalidInput as error:
            notes.append(f"baseline {baseline.name!r} of {baseline.id} holds what is not compared: {error}")
    return notes


def _expect(context: SessionContext, items: Sequence[pytest.Item], baseline: Baseline) -> None:
    """Record the minimum time of the baseline's test, where it was measured on this machine."""
    if baseline.newest.launch_s is None or baseline.machine.fingerprint != context.machine.fingerprint:
        return
    config = context.config
    for item in items:
        # a test that measures several scenarios adds a part to its id for each further one
        if item.nodeid not in (baseline.id, baseline.id.rpartition("::")[0]):
            continue
        chosen = settings.resolve(config, item.nodeid, marker.merged(item), settings.base_spec(config))
        sides = 2 if options.value(config, "against") else 1
        if chosen.spec.engine == baseline.engine.name:
            context.budget.expect(item.nodeid, sides * chosen.launches * baseline.newest.launch_s)
