"""Endpoints as engines, in this process: what is wrong with one is named, and what is asked of one is what is meant."""

from __future__ import annotations

import json
import socket
import threading
import traceback
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_slmperf.baselines import builder
from pytest_slmperf.contrib.mock_server.plan import Fault, MockPlan
from pytest_slmperf.contrib.mock_server.process import MockServer
from pytest_slmperf.engines.base import Batch, EngineState
from pytest_slmperf.engines.openai.adapter import OpenAIAdapter
from pytest_slmperf.engines.vllm_server.adapter import VllmServerAdapter
from pytest_slmperf.environment import fingerprint
from pytest_slmperf.errors import EngineError, InvalidInput
from pytest_slmperf.load.requests import Drawn, Item, fixed
from pytest_slmperf.measuring.assemble import engine_record
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.model.result import Machine
from pytest_slmperf.scenarios.offline import Offline
from pytest_slmperf.scenarios.serving import Serving


def launched(url: str, model: str = "mock", **settings):
    adapter = OpenAIAdapter()
    endpoint = {"endpoint": url} if url else {}
    spec = adapter.resolve(EngineSpec("openai", model, device="cpu").with_settings(**endpoint, **settings))
    return adapter.launch(spec, log_path=Path("unused.log"), progress=lambda text: None)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({}, InvalidInput, "no endpoint; give --slmperf-endpoint"),
        ({"endpoint": "localhost:8000"}, InvalidInput, "is not a URL such as"),
        ({"endpoint": "http://me:hunter2@localhost/v1"}, InvalidInput, "put the key into the environment"),
        ({"endpoint": "me:hunter2@localhost:8000"}, InvalidInput, "put the key into the environment"),
        ({"endpoint": "http://x/v1?key=hunter2"}, InvalidInput, "put the key into the environment"),
        ({"endpoint": "http://x", "key_env": "sk-hunter2"}, InvalidInput, "the name of an environment variable"),
        ({"endpoint": "http://x", "key_env": "hunter2"}, InvalidInput, "named by key_env is not set"),
        ({"endpoint": "http://x:99999/v1"}, InvalidInput, "is not a URL such as"),
        ({"endpoint": "http://x", "api": "responses"}, InvalidInput, "'completions' or 'chat'"),
        ({"endpoint": "http://x", "vocabluary": 5}, InvalidInput, "no setting 'vocabluary'; did you mean vocabulary"),
        ({"endpoint": "http://x", "clients": "two"}, InvalidInput, "clients must be a number"),
        ({"endpoint": "http://127.0.0.1:9/v1"}, EngineError, "127.0.0.1:9/v1 cannot be reached .* is the server up"),
    ],
)
def test_wrong_endpoints_are_named(settings, error, says):
    url = settings.pop("endpoint", "")
    with pytest.raises(error, match=says) as caught:
        launched(url, **settings)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["hunter2\nX-Other: 1", 'hun"ter2 x', "hünter2"])
def test_key_that_no_header_can_carry(server, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(InvalidInput, match="the key in OPENAI_API_KEY holds characters") as caught:
        launched(server.url)
    assert "ter2" not in "".join(traceback.format_exception(caught.value))


def test_line_end_behind_a_key_is_not_part_of_it(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "hunter2\n")
    assert launched(server.url).generate(Batch(1, 4, 2)).completed == 1


def test_server_that_speaks_no_http(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "hunter2")

    def greet() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"SSH-2.0\r\n")
            connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        greeting = threading.Thread(target=greet)
        greeting.start()
        with pytest.raises(
            EngineError, match=r"cannot be reached \(no HTTP answer: it does not begin as one"
        ) as caught:
            launched(f"http://127.0.0.1:{listener.getsockname()[1]}")
        greeting.join()
    assert caught.value.__suppress_context__


def result_of(port: int, **settings):
    """What a results file says of one engine at that port."""
    spec = OpenAIAdapter().resolve(
        EngineSpec("openai", "m").with_settings(endpoint=f"http://127.0.0.1:{port}/v1", **settings)
    )
    return engine_record(spec, {"version": "0.32.0", "device": spec.device, "weights": "real"})


def test_the_way_to_an_endpoint_splits_no_baseline():
    one, other = result_of(8000), result_of(51234, key_env="PATH", insecure=True)
    assert one.settings["settings"]["endpoint"] != other.settings["settings"]["endpoint"]  # the results file tells
    assert builder.stable(one) == builder.stable(other)
    assert builder.stable(one) != builder.stable(result_of(8000, api="chat"))
    machine = Machine(fingerprint="", cpu={"model": "x", "cores": 2}, gpus=[])
    names = {fingerprint.of(machine, engine) for engine in (one, other)}
    assert len(names) == 1
    assert fingerprint.of(machine, result_of(8000, system="h100-a")) not in names
    with pytest.raises(InvalidInput, match="system must be letters"):
        result_of(8000, system="a b")


@pytest.fixture(scope="module")
def server():
    with MockServer(MockPlan(ttft_s=0.01, itl_s=0.002, chunk=2)) as server:
        yield server


def test_unknown_model_lists_what_is_served(server):
    with pytest.raises(InvalidInput, match=r"serves mock, not 'gpt'.*--slmperf-model"):
        launched(server.url, "gpt")


def test_offline_round_over_http(server):
    engine = launched(server.url, continuous_usage=True)
    reading = engine.generate(Batch(4, 7, 6))
    assert (reading.completed, reading.n_in, reading.n_out) == (4, 28, 24)
    assert len(reading.itl_s) == 4 * 4  # two events of two tokens after the first
    assert reading.t_start < reading.requests[0].t_first < reading.t_end
    assert reading.preemptions is None  # the mock server tells no counters: not 0
    engine.reset_caches()
    engine.stop()
    assert (engine.state, engine.alive()) == (EngineState.STOPPED, False)


def test_a_mock_server_is_marked_as_simulated(server):
    assert launched(server.url).facts["weights"] == "simulated"


def test_failed_requests_fail_an_offline_round():
    with MockServer(MockPlan(faults=(Fault("500"),))) as failing:
        engine = launched(failing.url)
        with pytest.raises(EngineError, match=r"2 of 2 requests failed \(http_500: the engine died\)"):
            engine.generate(Batch(2, 3, 3))


LOAD = Serving(Drawn(fixed(8, 10)), concurrency=2, num_requests=8)
BATCH = Offline(4, 8, 10)


@pytest.mark.parametrize("scenario", [LOAD, BATCH], ids=["serving", "offline"])
def test_an_endpoint_that_ends_answers_early_is_counted(scenario):
    with MockServer(MockPlan(ttft_s=0.01, itl_s=0.001, most_tokens=5)) as server:
        outcome = scenario.round(launched(server.url), 60)
    count = outcome.completed
    assert (outcome.lengths.requests, outcome.lengths.other) == (count, count)
    assert (outcome.lengths.asked, outcome.lengths.came) == (10 * count, 5 * count)


def test_answers_whose_tokens_are_counted_by_events_have_no_known_length():
    """An event may hold several tokens: fewer events than tokens are no sign of a short answer."""
    with MockServer(MockPlan(ttft_s=0.01, itl_s=0.001, chunk=2, usage=False)) as server:
        engine = launched(server.url)
        assert LOAD.round(engine, 60).lengths is None
        with pytest.raises(EngineError, match=r"the endpoint tells no usage .*measure it with slmperf.serving"):
            BATCH.round(engine, 60)


@pytest.mark.parametrize("scenario", [LOAD, BATCH], ids=["serving", "offline"])
def test_an_endpoint_that_refuses_ignore_eos_is_quoted_with_the_mend(scenario):
    mend = r"leave it out with --slmperf-set ignore_eos=false \(answers may then end early, which is counted\)"
    with MockServer(MockPlan(ttft_s=0.01, itl_s=0.001, faults=(Fault("422"),))) as server:
        with pytest.raises(EngineError, match=rf"http_422.*ignore_eos.*; {mend}$"):
            scenario.round(launched(server.url), 60)
        assert scenario.round(launched(server.url, ignore_eos=False), 60).completed


def test_bodies():
    http = launched_http()
    ids = json.loads(http.body(Item(n_out=5, n_in=4, parts=(("a", 4),)), seed=1))
    assert len(ids["prompt"]) == 4
    assert ids["ignore_eos"] is True
    assert ids["stream_options"] == {"include_usage": True}
    text = json.loads(http.body(Item(n_out=5, text="hello"), seed=1, ignore_eos=False))
    assert text["prompt"] == "hello"
    assert "ignore_eos" not in text
    chat = json.loads(launched_http(api="chat").body(Item(n_out=5, n_in=6, parts=(("p", 2), ("a", 4))), seed=1))
    assert len(chat["messages"][0]["content"].split()) == 6


def launched_http(**settings):
    from pytest_slmperf.engines.openai.adapter import http_of

    return http_of(EngineSpec("openai", "mock").with_settings(endpoint="http://x", **settings))


def test_command_of_our_own_server():
    adapter = VllmServerAdapter()
    spec = EngineSpec("vllm-server", "opt-125m", weights="dummy", dtype="bfloat16", device="cpu", max_model_len=512,
                      max_num_seqs=8, kv_cache_tokens=1024)  # fmt: skip
    command = adapter.command(spec)
    assert command[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]
    assert "--no-enable-prefix-caching" in command
    assert command[command.index("--kv-cache-memory-bytes") + 1] == str(1024 * 2 * 12 * 768 * 2)
    assert "--skip-tokenizer-init" in command
    assert "--gpu-memory-utilization" not in command
    with pytest.raises(InvalidInput, match="no setting 'tokeniser'; did you mean tokenizer"):
        adapter.resolve(EngineSpec("vllm-server", "opt-125m").with_settings(tokeniser="x"))


def test_a_second_server_starts_beside_the_first_on_a_gpu():
    """vLLM asks for 92 % of the GPU to be free unless told otherwise; its budget is rounded up to whole blocks."""
    spec = EngineSpec("vllm-server", "opt-125m", weights="dummy", dtype="float16", device="cuda:0", max_model_len=512,
                      max_num_seqs=8, kv_cache_tokens=1001)  # fmt: skip
    command = VllmServerAdapter().command(spec)
    assert float(command[command.index("--gpu-memory-utilization") + 1]) < 0.05
    assert command[command.index("--kv-cache-memory-bytes") + 1] == str(1008 * 2 * 12 * 768 * 2)


def test_settings_that_are_not_the_clients_are_arguments_of_the_server():
    spec = EngineSpec("vllm-server", "opt-125m", device="cpu", kv_cache_tokens=1024).with_settings(
        enforce_eager=True,
        async_scheduling=False,
        kv_cache_dtype="fp8",
        max_num_batched_tokens=512,
        clients=2,
        api="chat",
    )
    resolved = VllmServerAdapter().resolve(spec)
    command = VllmServerAdapter().command(resolved)
    assert command[command.index("--kv-cache-memory-bytes") + 1] == str(1024 * 2 * 12 * 768 * 1)
    given = command[command.index("--kv-cache-memory-bytes") + 2 :]  # behind what is chosen, so that they win
    assert given == [
        "--no-async-scheduling", "--enforce-eager", "--kv-cache-dtype=fp8", "--max-num-batched-tokens=512",
    ]  # fmt: skip
    assert not any("clients" in word or "api" in word.split("-") for word in given)


@pytest.mark.parametrize(("name", "why"), [("port", "a free one is chosen"), ("model", "--slmperf-model names it")])
def test_arguments_of_the_server_that_are_not_the_users(name, why):
    spec = EngineSpec("vllm-server", "opt-125m", device="cpu", settings=((name, "x"),))
    with pytest.raises(InvalidInput, match=f"setting {name} cannot be given: {why}"):
        VllmServerAdapter().resolve(spec)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("stream_interval", -1, "--stream-interval=-1"),
        ("scale", -0.5, "--scale=-0.5"),  # apart, vLLM's parser takes it for an option with a key behind a dot
        ("chat_template", "--{{ text }}", "--chat-template=--{{ text }}"),
        ("hf_overrides", '{"a_b": 1.5}', '--hf-overrides={"a_b": 1.5}'),
        ("compilation_config.cudagraph_mode", "NONE", "--compilation-config.cudagraph_mode=NONE"),
        ("compilation_config.cache_graph", False, "--compilation-config.cache_graph=false"),
    ],
)
def test_a_value_is_one_word_with_its_argument_and_keys_of_json_keep_their_underscores(name, value, word):
    spec = EngineSpec("vllm-server", "opt-125m", device="cpu", settings=((name, value),))
    assert VllmServerAdapter().command(VllmServerAdapter().resolve(spec))[-1] == word


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("served-model-name", "write setting served-model-name as served_model_name"),
        ("kv-cache-dtype", "write setting kv-cache-dtype as kv_cache_dtype"),
        ("served_model", "setting served_model is the beginning of served_model_name"),
        ("max_model", "setting max_model is the beginning of max_model_len"),
        ("enable_prefix_caching", "this engine's setting is prefix_caching"),
        ("ssl_keyfile", "the server is reached over plain HTTP"),
        ("config", "give what the file says as such"),
    ],
)
def test_other_ways_to_write_what_is_not_the_users_are_refused(name, says):
    """argparse takes dashes and beginnings of names: the server would be unlike what is on record, or not be found."""
    spec = EngineSpec("vllm-server", "opt-125m", device="cpu", settings=((name, "x"),))
    with pytest.raises(InvalidInput, match=says):
        VllmServerAdapter().resolve(spec)


@pytest.mark.parametrize(("model", "settings"), [("owner/name", ()), ("opt-125m", (("kv_cache_dtype", "fp8_ds_mla"),))])
def test_a_budget_of_unknown_bytes_is_refused_and_not_left_out(model, settings):
    spec = EngineSpec("vllm-server", model, device="cpu", kv_cache_tokens=1024, settings=settings)
    with pytest.raises(InvalidInput, match="1024 tokens cannot be sized; give the setting kv_cache_memory_bytes"):
        VllmServerAdapter().resolve(spec)
    assert VllmServerAdapter().resolve(replace(spec, kv_cache_tokens=None)).kv_cache_tokens is None


def test_a_proxy_of_the_environment_is_not_asked_for_what_the_load_reaches_directly(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert launched(server.url).facts


def test_a_key_of_the_server_stands_on_no_command_line():
    adapter = VllmServerAdapter()
    spec = EngineSpec("vllm-server", "opt-125m", device="cpu").with_settings(hf_token="planted-key", seed=3)
    resolved = adapter.resolve(spec)
    assert "planted-key" not in " ".join(adapter.command(resolved))
    assert "--seed=3" in adapter.command(resolved)
    assert adapter.environment(resolved)["HF_TOKEN"] == "planted-key"
    with pytest.raises(InvalidInput, match="setting mirror_password would stand on the server's command line"):
        adapter.resolve(EngineSpec("vllm-server", "opt-125m", device="cpu").with_settings(mirror_password="x"))
