"""The line in pytest's header: what will be measured, and against what."""

from __future__ import annotations

import pytest

from pytest_slmperf.pytest_plugin import options, settings


def header_line(config: pytest.Config, time_budget_s: float | None) -> str:
    """Engine, model, device, profile, time budget and baseline in one line."""
    spec = settings.base_spec(config)
    against, baseline = options.value(config, "against"), options.value(config, "baseline")
    place = options.shown_url(options.value(config, "baselines"))
    compared = f"duet against {against}" if against else f"baseline {baseline!r} in {place}"
    bounded = "" if time_budget_s is None else f", at most {time_budget_s:.0f} s"
    return (
        f"slmperf: {spec.engine} serving {spec.model} on {settings.device_of(config, spec)}, "
        f"profile {options.value(config, 'profile')}{bounded}, {compared}"
    )
