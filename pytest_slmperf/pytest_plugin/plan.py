"""The plan before the first launch: what each test costs by earlier sessions here, and what it can find in the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pytest_slmperf.pytest_plugin import setting_table, settings
from pytest_slmperf.util.formatting import counted, portion

if TYPE_CHECKING:
    from pytest_slmperf.measuring.context import Settings
    from pytest_slmperf.model.baseline import Baseline
    from pytest_slmperf.pytest_plugin.context import SessionContext

SHARE = 0.8  # of the session's time, which engines' starts, imports and repeated rounds leave for planned launches
JUDGED_FIRST = ("output_throughput", "hypervolume", "engine_start_time")  # the metric whose noise the plan is made with


@dataclass(frozen=True, slots=True)
class TestPlan:
    """What one test may do. ``launch_s``: seconds of a launch, by an earlier session; ``most`` fit into this session's time.

    ``finds``: the slowdown, as a share, that ``most`` launches find in four sessions of five; None where they find none, or
    where nothing is known of the test's noise.
    """

    __test__ = False

    name: str
    fewest: int
    most: int
    launch_s: float | None
    finds: float | None = None

    def line(self) -> str:
        if self.launch_s is None:
            return f"  {self.name}: not measured here yet; {self.fewest} launches at least"
        launches = f"{self.fewest} to {self.most} launches" if self.most > self.fewest else f"{self.fewest} launches"
        finds = "too few for a regression" if self.finds is None else f"finds about {portion(self.finds, 2)} slower"
        return f"  {self.name}: {launches} of {self.launch_s:.1f} s, {finds}"


def plan_lines(context: SessionContext, items: Sequence[pytest.Item]) -> list[str]:
    """The plan in one line, and with -v in a further line for each test; empty without tests."""
    from pytest_slmperf.errors import SlmperfError

    items = [item for item in items if "slmperf" in getattr(item, "fixturenames", ())]
    if not items:
        return []
    try:
        plans = _plans(context, items)
    except (SlmperfError, OSError):  # a baseline that cannot be read is reported by the tests that it refuses
        return []
    total = context.budget.total_s
    known = [plan for plan in plans if plan.launch_s is not None]
    unknown = len(plans) - len(known)
    texts = [counted(len(plans), "test")]
    if known:
        least = sum(plan.fewest * (plan.launch_s or 0.0) for plan in known)
        bound = "" if total is None else f" of at most {total:.0f} s"
        texts.append(f"{least:.0f} s{bound} for the fewest launches")
        texts += _found(known)
        if total is not None and least > total:
            texts.append(f"too little time: --slmperf-max-time {least / SHARE:.0f} would do")
    if unknown:
        kept = context.provisional is not None or bool(context.config.getoption("--slmperf-approve"))
        texts.append(
            (f"{unknown} not measured here yet" if known else "none measured here yet")
            + (": the next session compares with this one" if kept else "")
        )
    head = "slmperf plan: " + ", ".join(texts[:2]) + "".join(f"; {text}" for text in texts[2:])
    if context.config.get_verbosity() > 0:
        return [head, *(plan.line() for plan in plans)]
    return [head]


def _found(known: Sequence[TestPlan]) -> list[str]:
    """What the tests can find, from the sharpest to the bluntest."""
    able = sorted((plan for plan in known if plan.finds is not None), key=lambda plan: plan.finds or 0.0)
    if not able:
        return []
    first, last = able[0], able[-1]
    ends = [portion(plan.finds or 0.0, 2) for plan in (first, last)]
    if ends[0] == ends[1]:
        return [f"finds about {ends[0]} slower"]
    return [f"finds about {ends[0]} slower ({first.name}) to {ends[1]} ({last.name})"]


def baselines_of_here(context: SessionContext) -> list[Baseline]:
    """The baseline of each test and engine that was measured on this machine: stored ones, else provisional ones.

    BaselineError or OSError if the store cannot be read.
    """
    stored = context.store.all(setting_table.value(context.config, "baseline"))
    own = [] if context.provisional is None else context.provisional.readable()
    chosen: dict[tuple[str, str], Baseline] = {}
    for baseline in (*own, *stored):  # stored ones replace provisional ones
        if baseline.machine.fingerprint == context.machine.fingerprint:
            chosen[baseline.id, baseline.engine.name] = baseline
    return list(chosen.values())


def is_of(baseline: Baseline, item: pytest.Item) -> bool:
    """Whether a test measures this baseline's result; each further scenario of a test adds a part to the test's id."""
    return item.nodeid in (baseline.id, baseline.id.rpartition("::")[0])


def _plans(context: SessionContext, items: Sequence[pytest.Item]) -> list[TestPlan]:
    config, of_here = context.config, baselines_of_here(context)
    by_test: dict[str, list[Baseline]] = {}
    all_settings: dict[str, Settings] = {}
    for item in items:
        mark = setting_table.merged(item)
        chosen = all_settings[item.nodeid] = settings.resolve(
            config, item.nodeid, mark, settings.base_spec(config, mark)
        )
        by_test[item.nodeid] = [b for b in of_here if is_of(b, item) and b.engine.name == chosen.spec.engine]
    sides = 2 if setting_table.value(config, "against") else 1
    costs = {
        test: sides * sum(baseline.newest.launch_s or 0.0 for baseline in baselines)
        for test, baselines in by_test.items()
    }
    total = context.budget.total_s
    fewest_s = sum(all_settings[test].launches * cost for test, cost in costs.items())
    plans = []
    for item in items:
        chosen = all_settings[item.nodeid]
        most, cost = chosen.max_launches, costs[item.nodeid]
        if total is not None and cost:
            # A test whose verdict is open has what the others leave after their fewest launches.
            left = SHARE * total - (fewest_s - chosen.launches * cost)
            most = max(chosen.launches, min(most, int(left / cost)))
        each = [_finds(context, chosen, baseline, most) for baseline in by_test[item.nodeid]]
        able = [finds for finds in each if finds is not None]
        worst = max(able) if able and len(able) == len(each) else None
        name = item.nodeid.rpartition("::")[2]
        plans.append(TestPlan(name, chosen.launches, most, cost or None, worst))
    return plans


def _finds(context: SessionContext, chosen: Settings, baseline: Baseline, launches: int) -> float | None:
    """The slowdown that this number of launches finds against the baseline; None if they find none."""
    from pytest_slmperf.baselines.lookup import samples
    from pytest_slmperf.errors import InvalidInput
    from pytest_slmperf.judging.comparison import smallest_found
    from pytest_slmperf.judging.launch_planning import alpha_share

    kept = baseline.newest.metrics
    default = tuple(name for name in JUDGED_FIRST if name in kept)[:1]
    gate = next((gate for gate in chosen.gates(default) if gate.metric in kept), None)
    if gate is None:
        return None
    duet = bool(setting_table.value(context.config, "against"))
    alpha = alpha_share(setting_table.value(context.config, "alpha"), max(1, len(context.budget.tests)), 0)
    try:
        return smallest_found(
            gate,
            samples(baseline, gate.metric),
            context.noise.prior(baseline.fingerprint, [gate.metric]),
            alpha=alpha,
            mode="duet" if duet else "stored",
            launches=launches,
        )
    except InvalidInput:  # readings without a logarithm
        return None
