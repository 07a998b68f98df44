"""The second real engine: transformers' continuous batching, through the same pool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from pytest_slmperf.engines.base import Batch, Engine, EngineState
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.presets import presets
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.load.latencies import measure
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.serving_options import scenario

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("torch", "transformers")),
    reason="torch or transformers is not installed here",
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnginePool]:
    with EnginePool(Registry(builtin_adapters()), tmp_path_factory.mktemp("logs")) as pool:
        yield pool


@pytest.fixture(scope="module")
def engine(pool: EnginePool, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("model")
    config = presets()["smollm2-135m"].config | {"num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps(config))
    return pool.acquire(
        EngineSpec("transformers", str(folder), weights="dummy", max_model_len=128, max_num_seqs=8, kv_cache_tokens=512)
    )


def test_says_what_it_is(engine: Engine) -> None:
    assert engine.facts["version"][0].isdigit()
    assert engine.facts["prefix_caching"] is False
    assert engine.facts["kv_cache_tokens"] >= 512
    assert engine.start_time_s > 0


def test_a_round_makes_every_token_and_times_every_request(engine: Engine) -> None:
    reading = engine.generate(Batch(batch=4, input_len=16, output_len=12))
    assert (reading.n_in, reading.n_out, reading.completed) == (64, 48, 4)
    for request in reading.requests:
        assert reading.t_start == request.t_sent < request.t_first < request.t_last <= reading.t_end
    assert len(reading.itl_s) == 4 * 11
    assert min(reading.itl_s) > 0
    assert 0 < reading.kv_cache_peak <= 100
    assert 0 < reading.mean_running <= 4
    assert reading.preemptions == 0


def test_a_full_kv_cache_preempts_and_still_completes(engine: Engine) -> None:
    reading = engine.generate(Batch(batch=8, input_len=40, output_len=60))
    assert (reading.completed, reading.n_out) == (8, 480)
    assert reading.preemptions > 0
    assert reading.kv_cache_peak > 80


@pytest.mark.parametrize(
    ("load", "due"),
    [
        ({"rate": 20.0, "num_requests": 12}, 12),
        ({"concurrency": 3, "num_requests": 9}, 9),
        ({"concurrency": 2, "turns": 2, "num_requests": 6}, 6),
    ],
    ids=["open", "closed", "conversations"],
)
def test_serves_under_load(engine: Engine, load: dict, due: int) -> None:
    spare: dict[str, Any] = {"prefix_caching": False} if "turns" in load else {}
    asked = scenario(input_len=8, output_len=6, seed=3, **load, **spare)
    outcome, side = asked.play(engine, 60.0)
    result = measure(outcome)
    assert (result.counts["completed"], result.failures) == (due, {})
    assert set(outcome.requests.n_out) == {6}
    assert result.values["ttft_p50"] > 0
    assert outcome.itl.count == due * 5
    assert result.running.peak <= load.get("concurrency", due)
    assert side.statistics.kv_cache_peak > 0


def test_load_that_takes_too_long_is_given_up_and_the_engine_is_clean_after(engine: Engine) -> None:
    asked = scenario(concurrency=4, input_len=8, output_len=100, num_requests=8, request_timeout_s=0.15)
    outcome, _ = asked.play(engine, 60.0)
    assert "timeout" in measure(outcome).failures
    assert engine.generate(Batch(batch=2, input_len=8, output_len=4)).n_out == 8


def test_too_long_is_refused_and_the_engine_lives(engine: Engine) -> None:
    with pytest.raises(InvalidInput, match=r"100\+100 tokens is longer than the engine's max_model_len of 128"):
        engine.generate(Batch(1, 100, 100))
    assert engine.state is EngineState.READY


def test_a_setting_it_does_not_have(pool: EnginePool, engine: Engine) -> None:
    with pytest.raises(InvalidInput, match=r"no continuous batching setting 'page_sice'[\s\S]*page_size"):
        pool.acquire(engine.spec.with_settings(page_sice=16))
