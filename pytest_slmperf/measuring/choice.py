"""Which class measures a scenario."""

from __future__ import annotations

from pytest_slmperf.measuring.measurement import Measurement
from pytest_slmperf.measuring.studies.adaptive_sweep import SweepMeasurement
from pytest_slmperf.scenarios.base import Scenario
from pytest_slmperf.scenarios.sweep import Sweep


def measurement_of(scenario: Scenario) -> type[Measurement]:
    """The class that measures ``scenario``: a sweep has several points, every other scenario has one."""
    return SweepMeasurement if isinstance(scenario, Sweep) else Measurement
