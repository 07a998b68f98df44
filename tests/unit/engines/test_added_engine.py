"""The engine that docs/how-to/add-an-engine.md adds, taken from the page: it can do what a built-in engine can."""

from __future__ import annotations

import re
import runpy
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_slmperf import DeviceReading, EnergyMeter, EnergyReading, Watch
from pytest_slmperf.engines.base import Batch
from pytest_slmperf.engines.pool import EnginePool, EngineSource
from pytest_slmperf.engines.registry import Registry
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.measuring.context import BareIdle
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.replication import Replication
from pytest_slmperf.scenarios.serving_options import scenario

PAGE = Path(__file__).parents[3] / "docs/how-to/add-an-engine.md"
SPEC = EngineSpec("sleepy", "anything")


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[EnginePool]:
    for name, text in re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        (tmp_path / name).write_text(text)
    adapters = runpy.run_path(str(tmp_path / "conftest.py"))["pytest_slmperf_engines"](None)
    with EnginePool(Registry(adapters), tmp_path / "logs") as pool:
        yield pool


def test_it_measures_a_batch(pool: EnginePool) -> None:
    engine = pool.acquire(SPEC)
    reading = engine.generate(Batch(batch=8, input_len=16, output_len=5))
    assert (reading.n_in, reading.n_out, reading.completed) == (128, 40, 8)
    assert reading.t_end - reading.t_start >= 5 * 0.002
    assert reading.preemptions is None
    assert engine.start_time_s > 0


def test_it_serves_a_load_in_its_process(pool: EnginePool) -> None:
    load = scenario(rate=100.0, input_len=16, output_len=4, num_requests=10)
    spec = pool.resolve(load.spec(SPEC, pool.adapter(SPEC)))
    measured = load.round(pool.acquire(spec), 30.0)
    assert measured.completed == 10
    assert measured.values["ttft_p50"] > 0
    assert measured.evidence["steps"] > 0
    assert "preemptions" not in measured.values  # not reported, and not 0


def test_a_prefix_cache_that_it_does_not_have_is_refused(pool: EnginePool) -> None:
    load = scenario(rate=100.0, input_len=16, output_len=4, num_requests=10, prefix_caching=True)
    with pytest.raises(InvalidInput, match="engine sleepy has no prefix cache"):
        load.spec(SPEC, pool.adapter(SPEC))


def test_it_runs_as_replicas(pool: EnginePool) -> None:
    two = Replication(replicas=2, batch=4, input_len=8, output_len=4)
    spec = pool.resolve(two.spec(SPEC, pool.adapter(SPEC)))
    with two.engine(spec, 0, EngineSource(pool)) as group:
        measured = two.round(group, 30.0)
    assert measured.completed == 8
    assert measured.values["fairness"] == pytest.approx(1.0, abs=0.5)
    assert len(set(group.facts.pids)) == 2


class FlatWatch(Watch):
    """50 W, always."""

    def reading(self, t_start: float, t_end: float) -> EnergyReading:
        seconds = t_end - t_start
        device = DeviceReading("board", None, "flat", "board", 50.0 * seconds, 0.1, seconds)
        return EnergyReading((device,), t_start, t_end)


class FlatMeter(EnergyMeter):
    name, available, reason = "flat", True, None

    def devices(self):
        return [{"name": "board"}]

    def watch(self) -> Watch:
        return FlatWatch()


def test_its_energy_is_read_by_an_added_meter_too(pool: EnginePool) -> None:
    """Rounds are stamped on the clock that the meter reads, and idle power is taken before the first start."""
    meter = FlatMeter()
    bare = BareIdle(meter)
    bare.before_start(pool.resolve(SPEC), pool.adapter(SPEC))
    assert bare.of(["board"])[0] == pytest.approx(50.0, rel=0.01)
    with meter.watch() as watch:
        reading = pool.acquire(SPEC).generate(Batch(batch=2, input_len=4, output_len=4))
        joules = watch.total([(reading.t_start, reading.t_end)]).joules
        assert joules == pytest.approx(50.0 * (reading.t_end - reading.t_start))
        assert watch.matched([(reading.t_start, time.monotonic())]) is None
