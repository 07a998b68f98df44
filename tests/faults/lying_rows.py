"""Rows: an engine, an adapter or a plugin's hook that reports what cannot be; named, and never a verdict."""

from __future__ import annotations

from faults.table import Bench, Ended, Fault

ONE = "def test_first(slmperf):\n    slmperf.offline(batch=2, input_len=16, output_len=16)\n"
LOAD = "def test_first(slmperf):\n    slmperf.serving(rate=50, num_requests=4, input_len=8, output_len=4, rounds=1)\n"
# An engine that does its work on a real clock, and says something else; "lie" is a line of Python on what it says.
LIAR = """
import math
from dataclasses import replace
from pytest_slmperf.engines.simulated.adapter import SimulatedAdapter

def changed(engine, name, lie):
    honest = getattr(engine, name)
    def call(*args, **kwargs):
        r = honest(*args, **kwargs)
        LIE
        return r
    setattr(engine, name, call)
    return engine

class Liar(SimulatedAdapter):
    name = "liar"
    def launch(self, spec, **more):
        return changed(changed(super().launch(spec, **more), "generate", None), "play", None)

def pytest_slmperf_engines(config):
    return [Liar()]
"""
LIES = ("--slmperf-set", "clock=real", "--slmperf-set", "step_ms=1", "--slmperf-rounds", "2", "--slmperf-launches", "1")


def lie(id: str, injected: str, change: str, says: str = "cannot be", suite: str = ONE) -> Fault:
    """The engine's reading ``r`` is changed before it is handed over."""

    def act(bench: Bench) -> Ended:
        bench.write("conftest.py", LIAR.replace("LIE", change))
        return bench.pytest("--slmperf-engine", "liar", *LIES, suite=suite, engine="liar")

    return Fault(f"lie-{id}", f"an engine that reports {injected}", act, 1, says, "no verdict is made of it")


def hook(id: str, injected: str, conftest: str, code: int, says: str, *arguments: str) -> Fault:
    """A plugin's hook gives what it must not."""

    def act(bench: Bench) -> Ended:
        bench.write("conftest.py", conftest)
        return bench.pytest(*arguments, suite=ONE)

    return Fault(f"hook-{id}", injected, act, code, says)


def changed(**fields: str) -> str:
    return "r = replace(r, " + ", ".join(f"{name}={value}" for name, value in fields.items()) + ")"


def hooked(name: str, value: str) -> str:
    return f"def {name}(config):\n    return {value}\n"


FIRST_REQUEST = "(r.requests[0]._replace({}),) + r.requests[1:]"
LATE = FIRST_REQUEST.format("t_first=r.t_end + .001")
RECORD = "r.records[0] = r.records[0]._replace({})"
ROWS = [
    lie("future", "a round that lies 10⁶ s ahead", changed(t_start="r.t_start + 1e6", t_end="r.t_end + 1e6")),
    lie("past", "a round from before the call", changed(t_start="r.t_start - 100", t_end="r.t_end - 100")),
    lie("backwards", "a round that ends before it starts", changed(t_end="r.t_start - 1")),
    lie("endless", "a round of 10³⁰⁰ s", changed(t_end="1e300")),
    lie("nan", "a start that is NaN", changed(t_start="math.nan")),
    lie("infinite", "an infinite end", changed(t_end="math.inf")),
    lie("text", "a start that is text", changed(t_start="'now'")),
    lie("boolean", "a start that is `True`", changed(t_start="True")),
    lie("tokens-negative", "a negative count of prompt tokens", changed(n_in="-5")),
    lie("tokens-fraction", "a count with a fraction", changed(n_out="31.5")),
    lie("tokens-boolean", "a count that is `True`", changed(completed="True")),
    lie("tokens-huge", "10³⁰ prompt tokens", changed(n_in="10**30")),
    lie("preemptions-negative", "negative preemptions", changed(preemptions="-3")),
    lie("preemptions-text", "preemptions as text", changed(preemptions="'some'")),
    lie("kv-above", "a KV cache filled to 700 %", changed(kv_cache_peak="700.0")),
    lie("running-nan", "running requests that are NaN", changed(mean_running="math.nan")),
    lie("evidence-list", "evidence that is a list", changed(evidence="[1, 2]")),
    lie("evidence-nan", "evidence that is NaN", changed(evidence="{'nivcsw': math.nan}")),
    lie("ttft-huge", "a first token after 10¹² ms",
        changed(requests=FIRST_REQUEST.format("t_first=r.t_start + 1e9, t_last=r.t_start + 1e9"))),
    lie("first-after-last", "a first token after the last", changed(requests=LATE)),
    lie("request-text", "a request that is text", changed(requests="('no',)")),
    lie("gap-negative", "a negative gap between tokens", changed(itl_s="(-1.0,)")),
    lie("gap-huge", "a gap of 10¹² s", changed(itl_s="(1e12,)")),
    lie("gap-text", "gaps as text", changed(itl_s="('a',)")),
    lie("none", "nothing at all", "r = None"),
    lie("a-list", "a list", "r = [1]"),
    lie("load-future", "requests of a load that lie 10⁶ s ahead", RECORD.format("last_ns=r.records[0].last_ns + 10**15"),
        suite=LOAD),
    lie("load-number", "a request that was never planned", RECORD.format("number=10**6"), suite=LOAD),
    lie("load-tokens", "more tokens than were asked for", RECORD.format("n_out=500"), suite=LOAD),
    lie("load-preemptions", "negative preemptions of a load", "r.engine.preemptions = -3", suite=LOAD),
    lie("load-evidence", "evidence of a load that is a list", "r.evidence = [1]", suite=LOAD),
    lie("load-none", "no report of a load", "r = None", suite=LOAD),
    hook("engines-number", "`pytest_slmperf_engines` gives numbers", hooked("pytest_slmperf_engines", "[1, None]"), 4,
         "pytest_slmperf_engines"),
    hook("engines-nothing-iterable", "`pytest_slmperf_engines` gives a number", hooked("pytest_slmperf_engines", "7"), 4,
         "pytest_slmperf_engines"),
    hook("engines-raises", "`pytest_slmperf_engines` raises", "def pytest_slmperf_engines(config):\n    1 / 0\n", 4,
         "ZeroDivisionError"),
    hook("meters-number", "`pytest_slmperf_meters` gives numbers", hooked("pytest_slmperf_meters", "[1]"), 4,
         "pytest_slmperf_meters"),
    hook("exporters-number", "`pytest_slmperf_exporters` gives numbers", hooked("pytest_slmperf_exporters", "[1]"), 4,
         "pytest_slmperf_exporters", "--slmperf-export", "csv=a.csv"),
    hook("exporters-raises", "`pytest_slmperf_exporters` raises", "def pytest_slmperf_exporters(config):\n    1 / 0\n", 4,
         "ZeroDivisionError", "--slmperf-export", "csv=a.csv"),
]  # fmt: skip
