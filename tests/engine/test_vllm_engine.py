"""The real vLLM, through the pool: rounds, timings, limits, and its errors. One engine start for most of it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from pytest_slmperf.engines.base import Batch, Engine, EngineState
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.presets import presets
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.errors import EngineError, InvalidInput
from pytest_slmperf.model.engine_spec import EngineSpec

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here")
KV_TOKENS = 2048


def few_layers(folder: Path, name: str, layers: int = 1) -> Path:
    """A preset's architecture with few layers: everything but its size kept true."""
    config = dict(presets()[name].config) | {"num_hidden_layers": layers}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnginePool]:
    with EnginePool(Registry(builtin_adapters()), tmp_path_factory.mktemp("logs")) as pool:
        yield pool


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> EngineSpec:
    model = few_layers(tmp_path_factory.mktemp("models") / "opt", "opt-125m", layers=2)
    return EngineSpec(
        "vllm", str(model), weights="dummy", max_model_len=256, max_num_seqs=16, kv_cache_tokens=KV_TOKENS
    )


@pytest.fixture
def engine(pool: EnginePool, spec: EngineSpec) -> Engine:
    return pool.acquire(spec)


def test_says_what_it_is(engine: Engine, spec: EngineSpec) -> None:
    facts = engine.facts
    assert facts["version"][0].isdigit()
    assert facts["weights"] == "dummy"
    assert facts["prefix_caching"] is False
    assert facts["max_num_seqs"] == 16
    assert KV_TOKENS <= facts["kv_cache_tokens"] < KV_TOKENS + 2 * facts["kv_block_size"]
    assert facts["cpus"] == list(engine.spec.cpus)
    if facts["device"] == "cpu":
        assert facts["threads"] == len(engine.spec.cpus)
    assert 0 < facts["import_s"] < engine.start_time_s


def test_a_round_makes_every_token_and_times_every_request(engine: Engine) -> None:
    reading = engine.generate(Batch(batch=8, input_len=16, output_len=12))
    assert (reading.n_in, reading.n_out, reading.completed) == (128, 96, 8)
    for request in reading.requests:
        assert reading.t_start == request.t_sent < request.t_first < request.t_last <= reading.t_end
        assert (request.n_in, request.n_out) == (16, 12)
    assert len(reading.itl_s) == 8 * 11
    # The gaps of a request add up to the time between its first and last token.
    spans = sum(request.t_last - request.t_first for request in reading.requests)
    assert sum(reading.itl_s) == pytest.approx(spans, rel=0.02)
    assert reading.preemptions == 0
    assert 0 < reading.kv_cache_peak <= 100
    assert 0 < reading.mean_running <= 8
    assert reading.evidence["steps"] >= 12


def test_the_same_work_from_the_same_seed(engine: Engine) -> None:
    work = Batch(batch=2, input_len=16, output_len=4, seed=3)
    assert engine.generate(work).n_out == engine.generate(work).n_out == 8
    engine.reset_caches()


def test_a_warm_prefix_cache_is_seen_and_reset(pool: EnginePool, spec: EngineSpec) -> None:
    """The trap: the same prompts again cost no prefill. Caching is off unless asked for, and each launch begins cold."""
    work = Batch(batch=2, input_len=200, output_len=2, seed=5)
    caching = pool.acquire(spec.with_settings(enable_prefix_caching=True))
    cold = caching.generate(work).evidence["cached_tokens"]
    warm = caching.generate(work).evidence["cached_tokens"]
    caching.reset_caches()
    again = caching.generate(work).evidence["cached_tokens"]
    assert (cold, again) == (0, 0)
    assert warm > 0
    plain = pool.acquire(spec)
    assert [plain.generate(work).evidence["cached_tokens"] for _ in range(2)] == [0, 0]


def test_a_full_kv_cache_preempts_and_still_completes(engine: Engine) -> None:
    """16 requests fit with their prompts, whatever the block size, and outgrow the cache together."""
    reading = engine.generate(Batch(batch=16, input_len=100, output_len=60))
    assert reading.completed == 16
    assert reading.n_out == 16 * 60
    assert reading.preemptions > 0
    assert reading.kv_cache_peak > 90
    assert engine.counters()["preemptions"] == reading.preemptions  # type: ignore[attr-defined]


def test_a_request_longer_than_the_model_takes_is_refused_and_the_engine_lives(engine: Engine) -> None:
    with pytest.raises(InvalidInput, match=r"200\+100 tokens is longer than the engine's max_model_len of 256"):
        engine.generate(Batch(batch=1, input_len=200, output_len=100))
    assert engine.state is EngineState.READY
    assert engine.generate(Batch(1, 8, 2)).n_out == 2


def test_text_needs_a_tokenizer(engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="skip_tokenizer_init=False"):
        engine.call("complete", {"prompt": "Hello"})  # type: ignore[attr-defined]


def test_hung_in_a_round_is_killed_and_started_again(pool: EnginePool, spec: EngineSpec) -> None:
    engine = pool.acquire(spec)
    os.kill(engine.facts["pid"], signal.SIGSTOP)
    with pytest.raises(EngineError, match=r"within 0\.5 s; it was stopped \(SIGSTOP\) and was killed") as caught:
        engine.generate(Batch(1, 8, 8), timeout_s=0.5)
    assert "vllm" in caught.value.log_tail.lower()
    assert not Path(f"/proc/{engine.facts['pid']}").exists()
    again = pool.acquire(spec)
    assert again.generate(Batch(1, 8, 2)).n_out == 2
    assert pool.starts[again.spec, 0] == 2


@pytest.mark.parametrize("name", ["pythia-160m", "qwen2.5-0.5b"])  # OPT runs above, Llama with the real weights
def test_each_family_runs(pool: EnginePool, tmp_path: Path, name: str) -> None:
    model = few_layers(tmp_path / name, name)
    spec = EngineSpec("vllm", str(model), weights="dummy", max_model_len=128, max_num_seqs=4, kv_cache_tokens=512)
    with pool.fresh(spec) as engine:
        reading = engine.generate(Batch(batch=2, input_len=8, output_len=4))
        assert reading.n_out == 8


def test_more_memory_than_there_is(pool: EnginePool, spec: EngineSpec) -> None:
    with pytest.raises(EngineError, match=r"out of memory while it started[\s\S]*smaller kv_cache_tokens"):
        pool.acquire(spec.with_settings(kv_cache_memory_bytes=2**50))


def test_a_model_that_the_hub_cannot_give(pool: EnginePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InvalidInput, match=r"model 'nobody/nothing' could not be had from the hub.*\n.*preset"):
        pool.acquire(EngineSpec("vllm", "nobody/nothing", kv_cache_tokens=512))
