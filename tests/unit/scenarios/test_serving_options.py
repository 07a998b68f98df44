from contextlib import contextmanager
from typing import Any

import pytest

from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.load.arrivals import Constant, Gamma, Ramp, Recorded
from pytest_slmperf.measuring.studies.rising_rates import measure_rates
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.serving import Serving
from pytest_slmperf.scenarios.serving_options import scenario

ADAPTERS = Registry(builtin_adapters())
FIXED: dict[str, Any] = {"input_len": 8, "output_len": 4, "duration_s": 2.0}


def test_kinds_of_load():
    assert scenario(rate=5, **FIXED).arrivals == Gamma(5, 1.0)
    assert scenario(rate=5, burstiness=0.5, **FIXED).arrivals == Gamma(5, 0.5)
    assert scenario(rate=5, arrivals="constant", **FIXED).arrivals == Constant(5)
    assert scenario(rate=1, rate_to=9, **FIXED).arrivals == Ramp(1, 9)
    assert scenario(arrivals=[0.0, 0.5], **FIXED).arrivals == Recorded((0.0, 0.5))
    closed = scenario(concurrency=3, **FIXED)
    assert closed.arrivals is None
    assert closed.due() is None


def test_parameters_tell_everything_that_makes_the_load():
    told = scenario(
        rate=5, slo={"ttft": 100}, warmup_s=1.0, seed=3, workload="azure-2023-conv", length_scale=0.1, duration_s=2.0
    )
    assert told.parameters() == {
        "kind": "serving", "loop": "open", "arrivals": "poisson", "rate": 5, "burstiness": 1.0,
        "workload": "azure-2023-conv", "length_scale": 0.1, "duration_s": 2.0, "warmup_s": 1.0,
        "slo": {"ttft": 100}, "seed": 3,
    }  # fmt: skip


def test_number_of_requests_instead_of_a_duration():
    load = scenario(rate=10, input_len=8, output_len=4, num_requests=37)
    assert len(load.due()) == len(load.items(None)) == 37
    assert load.due() == scenario(rate=10, input_len=8, output_len=4, duration_s=1000).due()[:37]


def test_engine_grows_with_the_work():
    load = scenario(concurrency=100, input_len=600, output_len=200, duration_s=1)
    spec = load.spec(EngineSpec("vllm", "m", max_model_len=512, max_num_seqs=64), ADAPTERS.get("vllm"))
    assert (spec.max_model_len, spec.max_num_seqs) == (1024, 128)


def test_prefix_caching_is_off_unless_a_scenario_is_about_it():
    plain = scenario(rate=1, **FIXED)
    assert "enable_prefix_caching" not in dict(plain.spec(EngineSpec("vllm", "m"), ADAPTERS.get("vllm")).settings)
    shared = scenario(rate=1, prefix_len=4, **FIXED)
    assert shared.prefix_caching
    assert dict(shared.spec(EngineSpec("vllm", "m"), ADAPTERS.get("vllm")).settings)["enable_prefix_caching"] is True
    assert (
        dict(shared.spec(EngineSpec("vllm-server", "m"), ADAPTERS.get("vllm-server")).settings)["prefix_caching"]
        is True
    )
    with pytest.raises(InvalidInput, match="no prefix cache"):
        shared.spec(EngineSpec("transformers", "m"), ADAPTERS.get("transformers"))
    assert (
        shared.spec(EngineSpec("simulated", "m"), ADAPTERS.get("simulated")).settings == ()
    )  # a dry run of the whole suite


def test_trace_with_times_is_played_as_it_is(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("arrival_time,input_len,output_len\n10,3,2\n10.5,4,2\n12,5,2\n")
    load = scenario(workload=path, trace_speed=2.0)
    assert load.due() == [0.0, 0.25, 1.0]
    assert [item.n_in for item in load.items(None)] == [3, 4, 5]


def test_pauses_of_a_trace_are_played_at_its_speed_and_shared_blocks_turn_the_prefix_cache_on(tmp_path):
    path = tmp_path / "multi.jsonl"
    path.write_text('{"turns": [{"text": "a", "timestamp": 0}, {"text": "b", "delay": 500}]}\n')
    load = scenario(workload=path, trace_speed=2.0, output_len=3)
    assert [(request.due, request.after, request.pause) for request in load.load(load.items(None)).requests] == [
        (0.0, None, 0.0), (None, 0, 0.25),
    ]  # fmt: skip
    assert load.prefix_caching
    assert not scenario(workload=path, output_len=3, prefix_caching=False).prefix_caching
    with pytest.raises(InvalidInput, match=r"multi\.jsonl:1 \(turn 1\): needs an output length"):
        scenario(workload=path)


def test_times_of_ones_own_are_all_played():
    load = scenario(arrivals=[0.0, 0.1, 0.1, 2.0], input_len=8, output_len=4)
    assert load.due() == [0.0, 0.1, 0.1, 2.0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "give input_len and output_len"),
        ({"input_len": 8, "output_len": 4, "rate": 1}, "duration_s or num_requests"),
        (FIXED, "rate .* or a concurrency"),
        ({**FIXED, "rate": 1, "concurrency": 2}, "rate .* or a concurrency"),
        ({**FIXED, "rate": -1}, "above 0"),
        ({**FIXED, "rate": "fast"}, "above 0"),
        ({**FIXED, "rate": 1, "wramup_s": 1}, "no argument 'wramup_s'"),
        ({**FIXED, "concurrency": 2.5}, "whole number"),
        ({**FIXED, "rate": 1, "slo": {"itl": 5}}, "SLO bounds ttft, tpot, e2el"),
        ({**FIXED, "rate": 1, "slo": {"ttft": -5}}, "above 0 ms"),
        ({**FIXED, "rate": 1, "warmup_s": -1}, "0 seconds or more"),
        ({**FIXED, "rate": 1, "drain_s": 0}, "drain_s must be a number above 0"),
        ({**FIXED, "arrivals": "poisson"}, "needs a rate"),
        ({**FIXED, "arrivals": "pareto", "rate": 1}, "'poisson', 'constant' or 'gamma'"),
        ({**FIXED, "burstiness": 2.0}, "need a rate"),
        ({**FIXED, "rate": 1, "arrivals": "constant", "burstiness": 2.0}, "no burstiness"),
        ({**FIXED, "rate": 1, "turns": 2, "prefix_len": 2}, "leave prefix_len out"),
        ({**FIXED, "rate": 1, "duration_s": "5"}, "duration_s must be a number above 0"),
        ({**FIXED, "rate": 1, "duration_s": 5, "tolerated_failures": "x"}, "a share from 0 to 1, not 'x'"),
        ({**FIXED, "rate": 1, "duration_s": 5, "seed": 0.5}, "seed must be a whole number"),
        ({**FIXED, "rate": 1, "rate_to": 5, "burstiness": 2.0}, "a ramp .* is Poisson"),
        ({**FIXED, "rate": 1, "duration_s": 5, "ramp_s": 2}, "with a rate use rate_to"),
        ({**FIXED, "arrivals": ["soon"]}, "a list of seconds"),
        ({**FIXED, "arrivals": [3, 1]}, "must not fall"),
        ({**FIXED, "rate": 1, "turns": 0}, "turns must be a whole number"),
        ({**FIXED, "rate": 1, "length_scale": 0.5}, "needs a named workload"),
        ({**FIXED, "rate": 1, "trace_speed": 0.5}, "needs a trace with times"),
        ({"workload": "trace.json", "rate": 1, "duration_s": 1}, "or a .jsonl or .csv file"),
        ({"workload": "azure-1999", "rate": 1, "duration_s": 1}, "unknown workload"),
        ({"workload": "azure-2023-code", "output_len": 5, "rate": 1, "duration_s": 1}, "not both"),
        ({"workload": "absent.jsonl", "rate": 1, "duration_s": 1}, "absent.jsonl: cannot be read"),
        ({"workload": "azure-2023-code", "rate": 1, "num_requests": 2, "warmup_s": 1.0}, "warmup_s needs duration_s"),
    ],
)
def test_wrong_arguments_are_named(options, says):
    with pytest.raises(InvalidInput, match=says):
        scenario(**options)


def test_rates_of_a_sweep_must_rise():
    for rates, keep_up in (([2, 1], 0.9), ([], 0.9), ([1, 2], 0), ([1, 2], 1.5)):
        with pytest.raises(InvalidInput, match="serving_sweep"):
            measure_rates(lambda rate: None, rates, keep_up)


@pytest.mark.parametrize(
    ("device", "cold", "served"),
    [("cuda:0", True, ["start", "load", "stop"]), ("cpu", True, []), (None, True, []), ("cuda:0", False, [])],
)
def test_a_cold_load_goes_once_before_the_count_where_an_engine_compiles(monkeypatch, device, cold, served):
    """A first launch that compiles, under its start and under the load, is no launch like the others."""
    seen = []

    @contextmanager
    def open_engine(spec, launch):
        assert launch == -1  # a process of its own
        seen.append("start")
        yield "engine"
        seen.append("stop")

    monkeypatch.setattr(Serving, "play", lambda load, engine, timeout_s: seen.append("load"))
    load, spec = scenario(rate=5, cold=cold, **FIXED), EngineSpec("vllm", "m", device=device)
    load.prepare(spec, 0, open_engine)  # type: ignore[arg-type]
    assert seen == served
    load.prepare(spec, 1, open_engine)  # type: ignore[arg-type]
    assert seen == served
