"""Which loop measures a scenario."""

from __future__ import annotations

from collections.abc import Callable

from pytest_slmperf.measuring.measurement import Measurement
from pytest_slmperf.measuring.studies.adaptive_sweep import SweepMeasurement
from pytest_slmperf.scenarios.base import Scenario
from pytest_slmperf.scenarios.sweep import Sweep


def measurement_of(scenario: Scenario) -> Callable[..., Measurement | SweepMeasurement]:
    """The class that measures ``scenario``; both take the same parts."""
    return SweepMeasurement if isinstance(scenario, Sweep) else Measurement
