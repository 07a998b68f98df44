"""The handle through which a test reads the result of a scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the plugin's fixtures import this module, and loading the plugin stays light
    from pytest_slmperf.model.result import MetricValue, Result


class Measurement:
    """The result of one scenario: ``measurement["ttft_p99"]`` is the value in the metric's unit."""

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
        """The value of a metric; LookupError with the reason if it was not measured.

        If the disturbed machine or the end of the time prevented every measurement, the error is NotMeasured, which ends
        the test as inconclusive.
        """
        __tracebackhide__ = True
        self.result.need(any(value.launches for value in self.result.metrics.values()), name)
        if name not in self.result.metrics:
            known = ", ".join(sorted(self.result.metrics))
            raise LookupError(f"{self.result.id} has no metric {name!r}; it has {known}")
        reading = self.result.metrics[name]
        if reading.value is None:
            raise LookupError(f"{self.result.id}: {name} was not measured: {reading.reason}")
        return reading.value
