"""What is known of this machine's noise: from stored sessions, and from tests already measured in this session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_slmperf.model.verdict import LaunchSample
from pytest_slmperf.statistics.variance import STATED_PRIOR, VariancePrior, estimate_prior

History = Mapping[tuple[str, str], Sequence[LaunchSample]]
"""(test id, metric) -> all launches measured on this machine."""


@dataclass
class Noise:
    """Gives the variance prior of a comparison.

    ``stored``: reads the machine's history by result fingerprint; called once per fingerprint.
    """

    stored: Callable[[str], History]
    _known: dict[str, History] = field(default_factory=dict)
    _measured: dict[tuple[str, str], list[LaunchSample]] = field(default_factory=dict)
    pairs: dict[tuple[str, str], tuple[list[LaunchSample], list[LaunchSample]]] = field(default_factory=dict)

    def add(self, test: str, metric: str, launches: Sequence[LaunchSample]) -> None:
        """Add the launches of a finished test of this session."""
        self._measured[test, metric] = list(launches)

    def add_pair(self, test: str, metric: str, sides: tuple[Sequence[LaunchSample], Sequence[LaunchSample]]) -> None:
        """Add both sides of a finished duet of this session, tied by their pair numbers."""
        self.pairs[test, metric] = (list(sides[0]), list(sides[1]))

    def prior(self, fingerprint: str, metrics: Iterable[str]) -> VariancePrior:
        """The prior for comparisons of these metrics, from like metrics only: start-up times scatter unlike throughputs."""
        wanted = set(metrics)
        if fingerprint not in self._known:
            self._known[fingerprint] = self.stored(fingerprint)
        history: dict[str, list[LaunchSample]] = {}
        # Keep today's launches apart: pooled with stored launches of the same test, a real regression would count as
        # variance between sessions and hide itself.
        for known, when in ((self._known[fingerprint], "stored"), (self._measured, "today")):
            for (test, metric), launches in known.items():
                if metric in wanted:
                    history[f"{test} {metric} {when}"] = list(launches)
        pairs = [sides for (_, metric), sides in self.pairs.items() if metric in wanted]
        return estimate_prior(history, pairs) if history or pairs else STATED_PRIOR
