"""Cold start: a slower start-up is a regression too."""

from __future__ import annotations

import pytest

from pytest_slmperf import pick


@pytest.mark.skipif(
    not pick(quick=False, full=True, gpu=True), reason="in the full profile: each launch starts an engine anew"
)
@pytest.mark.slmperf(tolerance=0.05, limit=0.25)
def test_cold_start(slmperf):
    slmperf.cold_start()
