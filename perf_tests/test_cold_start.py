"""Cold start: a slower start-up is a regression too."""

from __future__ import annotations

import pytest


@pytest.mark.slmperf(tolerance=0.05, limit=0.25)
def test_cold_start(slmperf):
    slmperf.cold_start()
