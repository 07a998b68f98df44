"""Rows: text that would steer a terminal or command a CI system, from servers, engines, files and tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from faults.table import Bench, Ended, Fault
from support.hostile import BEGINNINGS, REST, acts, made_hostile
from support.sample_results import sample_results

from pytest_slmperf.model.results_file import encode

HOSTILE = BEGINNINGS[0] + REST[:-1] + "\n::error::owned"
SERVED = """
def test_first(slmperf):
    slmperf.serving(rate=20, num_requests=4, input_len=8, output_len=4)
"""
ONE = "def test_first(slmperf):\n    slmperf.offline(batch=1, input_len=16, output_len=16)\n"
ENGINE = """
import pytest
from pytest_slmperf.engines.simulated.adapter import SimulatedAdapter
from pytest_slmperf.errors import EngineError, InvalidInput

HOSTILE = {hostile!r}

class Hostile(SimulatedAdapter):
    name = "hostile"

    def launch(self, spec, *, log_path, progress, timeout_s=900.0):
        progress(HOSTILE)
        {fails}
        engine = super().launch(spec, log_path=log_path, progress=progress, timeout_s=timeout_s)
        engine.facts |= {{"other": HOSTILE, "version": HOSTILE}}
        return engine


def pytest_slmperf_engines(config):
    return [Hostile()]
"""


@contextmanager
def endpoint(models: list[str], event: str, status: int) -> Iterator[str]:
    """A server of OpenAI's API; its URL. Every completion is answered with that event, or with that status and body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.endswith("/models")
            self._answer(
                200 if found else 404, json.dumps({"data": [{"id": name} for name in models]}), "application/json"
            )

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(status, event, "text/event-stream")

        def _answer(self, status: int, text: str, kind: str) -> None:
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with suppress(OSError):  # whoever asked has gone
                self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


def at_endpoint(models: list[str], event: str = "", status: int = 200) -> Callable[[Bench], Ended]:
    def act(bench: Bench) -> Ended:
        with endpoint(models, event, status) as url:
            return bench.pytest("--slmperf-endpoint", url, "--slmperf-model", "m", suite=SERVED, engine="openai")

    return act


def failing(fails: str, *arguments: str, suite: str = ONE) -> Callable[[Bench], Ended]:
    def act(bench: Bench) -> Ended:
        bench.write("conftest.py", ENGINE.format(hostile=HOSTILE, fails=fails))
        return bench.pytest(*arguments, suite=suite, engine="hostile", process=True)

    return act


def regressed(bench: Bench) -> Ended:
    """A slower engine whose version and settings are hostile: "what changed" of a failing test shows them."""
    bench.write("conftest.py", ENGINE.format(hostile="plain", fails="pass"))
    assert bench.pytest("--slmperf-approve", suite=ONE, engine="hostile").code == 0
    bench.write("conftest.py", ENGINE.format(hostile=HOSTILE, fails="pass"))
    bench.environment["SLMPERF_SIMULATED_SLOWDOWN"] = "0.5"
    bench.write("test_perf.py", ONE)
    return bench.ended(bench.start("--slmperf", "--slmperf-engine", "hostile", "-vv", "-rA"))


def kept_hostile(*arguments: str) -> Callable[[Bench], Ended]:
    """A baseline of this very test, every text of which is hostile but what finds it."""

    def act(bench: Bench) -> Ended:
        assert bench.pytest("--slmperf-approve", suite=ONE).code == 0
        (path,) = bench.folder.glob("baselines/*/main/*/*.json")
        document = json.loads(path.read_text())
        for session in document["sessions"]:
            session |= {"started_at": HOSTILE, "reason": HOSTILE, "engine_version": HOSTILE, "plugin_version": HOSTILE}
            session["commit"] = {"id": HOSTILE, "branch": HOSTILE, "dirty": True}
            session["metrics"][HOSTILE] = session["metrics"]["output_throughput"]
        document["engine"] |= {"version": HOSTILE, "settings": {HOSTILE: HOSTILE}, "facts": {HOSTILE: HOSTILE}}
        document["machine"] |= {"os": {HOSTILE: HOSTILE}, "driver": HOSTILE, "python": HOSTILE}
        document["work"] |= {"note": HOSTILE} if "show" in arguments else {}
        path.write_text(json.dumps(document))
        return bench.slmperf(*arguments) if arguments else bench.pytest("-vv", "-rA", suite=ONE)

    return act


def summarised(bench: Bench) -> Ended:
    """The annotations of a job on hostile results: lines that a runner obeys, and each must be ours."""
    from pytest_slmperf.reports.markdown import annotations

    lines = [line for start in BEGINNINGS for line in annotations(made_hostile(sample_results(), start))]
    wrong = [line for line in lines if not line.startswith(("::error ", "::warning ", "::notice ")) or acts(line[2:])]
    return Ended(0, "\n".join(["checked", *wrong]))


def from_file(*words: str) -> Callable[[Bench], Ended]:
    def act(bench: Bench) -> Ended:
        for number, start in enumerate(BEGINNINGS[:2]):
            # a unit that is not the metric's is refused
            bench.write(f"{number}.json", encode(made_hostile(sample_results(6), start, keep=("unit",))))
        return bench.slmperf(*words)

    return act


NAMES = [f"{HOSTILE}{number}" for number in range(10_000)]
ERROR = "data: " + json.dumps({"error": {"message": HOSTILE, "type": HOSTILE}}) + "\n\n"
LONG = "raise EngineError('x' * 8_000 + ' ' + 'word ' * 50_000, 'log line\\n' * 100_000)"

ROWS = [
    Fault("text-model-names", "an endpoint lists 10,000 hostile model names", at_endpoint(NAMES), 1, "and 9,990 more"),
    Fault("text-error-event", "an endpoint's error event is hostile", at_endpoint(["m"], ERROR), 1, "4 error_event"),
    Fault("text-error-body", "an endpoint's error body is hostile", at_endpoint(["m"], HOSTILE, 500), 1, "500"),
    Fault(
        "text-engine-error",
        "an engine's error and log are hostile",
        failing("raise EngineError(HOSTILE, HOSTILE)"),
        1,
        "\\x1b",
    ),
    Fault("text-engine-refusal", "an engine's refusal is hostile", failing("raise InvalidInput(HOSTILE)"), 1, "\\x1b"),
    Fault(
        "text-engine-long",
        "an engine's error has a word of 8,000 characters, and its log 100,000 lines",
        failing(LONG),
        1,
        "lines left out",
    ),
    Fault("text-engine-facts", "an engine's version and facts are hostile", failing("pass", "-vv", "-rA"), 0, "new"),
    Fault("text-what-changed", "what changed of a failing test is hostile", regressed, 1, "what changed"),
    Fault("text-baseline-session", "a baseline's fields are hostile, in a session", kept_hostile(), 0, "\\x1b"),
    Fault(
        "text-baseline-list",
        "a baseline's fields are hostile, listed",
        kept_hostile("baselines", "list"),
        0,
        "1 session",
    ),
    Fault(
        "text-baseline-show",
        "a baseline's fields are hostile, shown",
        kept_hostile("baselines", "show", "test_first"),
        0,
        "\\x1b",
    ),
    Fault(
        "text-baseline-compare",
        "a baseline's fields are hostile, compared with",
        kept_hostile("compare", "-vv", "baselines", ".slmperf/results.json"),
        2,
        "\\x1b",
    ),
    Fault(
        "text-compare",
        "every text of two results files is hostile, compared",
        from_file("compare", "-vv", "0.json", "1.json"),
        2,
        "\\x1b",
    ),
    Fault(
        "text-csv",
        "every text of a results file is hostile, exported as CSV",
        from_file("export", "--format", "csv", "0.json"),
        0,
        "\\x1b",
    ),
    Fault(
        "text-annotations", "every text of a results file is hostile, as annotations of a job", summarised, 0, "checked"
    ),
]
