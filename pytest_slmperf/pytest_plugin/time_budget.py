"""How the session's time is shared among its performance tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_slmperf.judging.launch_planning import seconds_for, seconds_for_the_fewest
from pytest_slmperf.model.result import Result

MARGIN = 1.25  # a launch may take longer today: rounds until it is steady, an engine's start


@dataclass
class TimeBudget:
    """The session's tests, their expected and measured times, and what is left for each.

    ``started`` and ``deadline`` are seconds on the monotonic clock; ``deadline`` None: the session has no time budget.
    """

    started: float
    deadline: float | None
    tests: list[str] = field(default_factory=list)  # performance tests of this run, in order
    finished: set[str] = field(default_factory=set)
    expected: dict[str, float] = field(default_factory=dict)  # minimum seconds per test, by its baseline
    least: dict[str, float] = field(default_factory=dict)  # minimum seconds per test, as measured: its fewest launches
    measured_until: float | None = None  # None in a controller of pytest-xdist

    @property
    def total_s(self) -> float | None:
        """Seconds of the whole session; None without a time budget."""
        return None if self.deadline is None else self.deadline - self.started

    def expect(self, test: str, seconds: float) -> None:
        """Add to the minimum time of a test that its baseline predicts."""
        self.expected[test] = self.expected.get(test, 0.0) + seconds

    def add_measured(self, test: str, launch_seconds: Sequence[float], until: float) -> None:
        """Add the seconds of a test's fewest launches, measured until ``until``."""
        self.least[test] = self.least.get(test, 0.0) + sum(launch_seconds)
        self.measured_until = until

    def ends(self, test: str, max_time: float | None, now: float) -> tuple[float | None, float | None]:
        """Until when this test may measure, and until when it may have its fewest launches; None: no bound.

        A test gets its part of the time left, the tests still to come counted in; a test that ends early leaves its time
        to the later ones. ``max_time``: the test's own bound in seconds.
        """
        own_end = [] if max_time is None else [now + max_time]
        if self.deadline is None:
            return min(own_end, default=None), None
        # An unknown test is budgeted like the slowest measured one, else like the mean of what baselines predict.
        average = sum(self.expected.values()) / max(1, len(self.expected))
        unknown = max(self.least.values(), default=average)
        others = [other for other in self.tests if other not in self.finished and other != test]
        own = max(0.0, MARGIN * self.expected.get(test, unknown) - self.least.get(test, 0.0))
        needs = [self.expected.get(other, unknown) for other in others]
        left, total = self.deadline - now, self.deadline - self.started
        share = seconds_for(left, total, max(1 + len(others), len(self.tests)), own, [MARGIN * need for need in needs])
        fewest = seconds_for_the_fewest(left, own, needs)
        return min([now + share, *own_end]), min([now + fewest, *own_end])

    def unfinished_note(self) -> list[str]:
        """A note where the session ended before all of its tests did."""
        left = [test for test in self.tests if test not in self.finished]
        if not left:
            return []
        return [f"stopped early: {len(left)} of {len(self.tests)} performance tests were not run to their end"]

    def too_short_note(self, results: Sequence[Result], now: float) -> list[str]:
        """A note naming the time that would have given every test its fewest launches, where this one did not."""
        short = [result for result in results if result.launches_short]
        if not short or self.deadline is None:
            return []
        usual = max((result.launch_s for result in results if result.launch_s is not None), default=0.0)
        missing = sum(result.launches_short * (result.launch_s or usual) for result in short)
        used = (self.measured_until or now) - self.started
        enough = 10 * math.ceil(1.05 * (used + missing) / 10)
        names = ", ".join(result.id for result in short[:3]) + (f" and {len(short) - 3} more" if len(short) > 3 else "")
        return [
            f"the time ended before every test had its fewest launches ({names}); --slmperf-max-time {enough} would "
            "have done, or fewer tests"
        ]
