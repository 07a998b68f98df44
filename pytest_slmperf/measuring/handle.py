"""What a scenario gave, in the hands of a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the plugin's fixtures import this module, and loading the plugin stays light
    from pytest_slmperf.model.result import MetricValue, Result


class Measurement:
    """What a scenario gave: ``measurement["ttft_p99"]`` is the value in the metric's unit."""

    def __init__(self, result: Result) -> None:
        self.result = result

    @property
    def metrics(self) -> dict[str, MetricValue]:
        return self.result.metrics

    @property
    def verdicts(self) -> dict[str, str]:
        """Verdict by metric."""
        return {verdict.metric: str(verdict.verdict) for verdict in self.result.verdicts}

    def __getitem__(self, name: str) -> float:
        """The value of a metric; LookupError with the reason when it was not measured.

        Where the machine was too disturbed, or the time over, before anything was measured, that error (NotMeasured) ends
        the test as inconclusive: nothing can be asserted of it.
        """
        __tracebackhide__ = True
        self.result.need(any(value.launches for value in self.result.metrics.values()), name)
        if name not in self.result.metrics:
            known = ", ".join(sorted(self.result.metrics))
            raise LookupError(f"{self.result.id} has no metric {name!r}; it has {known}")
        found = self.result.metrics[name]
        if found.value is None:
            raise LookupError(f"{self.result.id}: {name} was not measured: {found.reason}")
        return found.value
