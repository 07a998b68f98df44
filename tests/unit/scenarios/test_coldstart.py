"""Which launches of a cold start count."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.offline import ColdStart


@pytest.mark.parametrize(("device", "before"), [("cuda:0", [1, 0, 0]), ("cpu", [0, 0, 0]), (None, [0, 0, 0])])
def test_a_launch_that_does_not_count_fills_the_compile_caches_of_a_gpu(device, before):
    started, ended = [], []

    @contextmanager
    def open_engine(spec, launch):
        started.append(launch)
        yield
        ended.append(launch)

    spec = EngineSpec("vllm", "opt-125m", device=device)
    for launch, expected in enumerate(before):
        started.clear()
        ended.clear()
        ColdStart().prepare(spec, launch, open_engine)  # type: ignore[arg-type]
        assert started == ended == [-1] * expected
