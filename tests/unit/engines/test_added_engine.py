"""The engine that docs/how-to/add-an-engine.md adds, taken from the page and driven through the pool."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from pytest_slmperf.engines.base import Batch
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.registry import Registry
from pytest_slmperf.model.engine_spec import EngineSpec

PAGE = Path(__file__).parents[3] / "docs/how-to/add-an-engine.md"


def test_the_engine_of_the_page_measures(tmp_path: Path) -> None:
    for name, text in re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        (tmp_path / name).write_text(text)
    adapters = runpy.run_path(str(tmp_path / "conftest.py"))["pytest_slmperf_engines"](None)
    with EnginePool(Registry(adapters), tmp_path / "logs") as pool:
        engine = pool.acquire(EngineSpec("sleepy", "anything"))
        reading = engine.generate(Batch(batch=8, input_len=16, output_len=5))
    assert (reading.n_in, reading.n_out, reading.completed) == (128, 40, 8)
    assert reading.t_end - reading.t_start >= 5 * 0.002
    assert reading.preemptions is None
    assert engine.start_time_s > 0
