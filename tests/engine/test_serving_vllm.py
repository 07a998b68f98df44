"""The real vLLM under load, in the worker: every request is answered, times are in order, the engine's limits are named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from pytest_slmperf.engines.base import Engine
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.presets import presets
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.load.latencies import Slo, measure
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.serving_options import scenario

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(dict(presets()["opt-125m"].config) | {"num_hidden_layers": 2}))
    spec = EngineSpec("vllm", str(folder), weights="dummy", max_model_len=256, max_num_seqs=16, kv_cache_tokens=2048)
    with EnginePool(Registry(builtin_adapters()), tmp_path_factory.mktemp("logs")) as pool:
        yield pool.acquire(spec)


def test_open_loop(engine):
    load = scenario(rate=25, input_len=16, output_len=6, duration_s=1.0, warmup_s=0.2, slo={"ttft": 60_000})
    outcome, side = load.play(engine, 60)
    result = measure(outcome, load.slo)
    assert result.failures == {}
    assert result.counts["due"] == sum(0.2 <= at < 1.2 for at in load.due())
    requests = outcome.requests
    for k in range(len(requests)):
        assert requests.due_ns[k] <= requests.sent_ns[k] <= requests.first_ns[k] < requests.last_ns[k]
        assert (requests.n_in[k], requests.n_out[k]) == (16, 6)
    # due times are those of the schedule, to the rounding of nanoseconds
    due = sorted((at - outcome.start_ns) / 1e9 for at in requests.due_ns)
    assert due == pytest.approx(load.due(), abs=1e-8)
    assert outcome.itl.count == 5 * result.counts["due"]
    assert side.statistics.preemptions == 0
    assert 0 < side.statistics.kv_cache_peak <= 100


def test_closed_loop_of_conversations(engine):
    load = scenario(concurrency=3, input_len=8, output_len=4, turns=3, num_requests=12, prefix_caching=False)
    outcome, side = load.play(engine, 60)
    result = measure(outcome, Slo(e2el=60_000))
    assert result.counts["completed"] == 12
    assert result.running.peak <= 3
    assert sorted(outcome.requests.n_in) == sorted([8, 20, 32] * 4)
    assert side.statistics.mean_running <= 3.01


def test_overload_completes_every_request_and_counts_preemptions(engine):
    load = scenario(arrivals=[0.0] * 40, input_len=100, output_len=60, num_requests=40)
    outcome, side = load.play(engine, 120)
    result = measure(outcome)
    assert result.counts["completed"] == 40
    assert side.statistics.kv_cache_peak > 60
    assert side.statistics.preemptions >= 0


def test_request_that_does_not_fit(engine):
    load = scenario(rate=10, input_len=250, output_len=10, num_requests=2)
    with pytest.raises(InvalidInput, match="250"):
        load.play(engine, 60)
    assert engine.alive()


def test_time_limit_gives_up_and_the_engine_is_clean_after(engine):
    load = scenario(arrivals=[0.0] * 60, input_len=100, output_len=100, num_requests=60, limit_s=0.3)
    outcome, _ = load.play(engine, 60)
    result = measure(outcome)
    assert result.failures.get("unfinished", 0) > 0
    assert result.counts["due"] == 60
    again = measure(scenario(concurrency=2, input_len=8, output_len=4, num_requests=4).play(engine, 60)[0])
    assert again.counts["completed"] == 4
