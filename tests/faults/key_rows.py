"""Rows: keys and passwords, planted where they are given; nothing that is printed or written may hold one."""

from __future__ import annotations

from collections.abc import Callable

from faults.ending_rows import until_reached
from faults.table import Bench, Ended, Fault

PLANTED = "Pl4nted-in-{}-7f3a9c"
GIVEN = (
    "conftest.py",
    "test_perf.py",
    "pyproject.toml",
    "pytest.ini",
)  # the user's own files, which hold what was planted
ONE = "def test_first(slmperf):\n    slmperf.offline(batch=1, input_len=16, output_len=16)\n"

# An engine that takes any key, writes it into its log, and says it when it fails.
KEYED = """
from dataclasses import replace

import pytest
from pytest_slmperf.engines.simulated.adapter import SimulatedAdapter
from pytest_slmperf.errors import EngineError


class Keyed(SimulatedAdapter):
    name = "keyed"

    def resolve(self, spec):
        given = dict(spec.settings)
        own = {name: given.pop(name) for name in ("hf_token", "refuses") if name in given}
        return super().resolve(replace(spec, settings=tuple(sorted(given.items())))).with_settings(**own)

    def launch(self, spec, *, log_path, progress, timeout_s=900.0):
        given = dict(spec.settings)
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("a") as log:
            log.write(f"INFO arguments: {given}\\n")
        if given.get("refuses"):
            raise EngineError(f"cannot log in with {given['hf_token']}", f"401 for hf_token={given['hf_token']}")
        progress(f"logging in with {given.get('hf_token')}")
        engine = super().launch(spec, log_path=log_path, progress=progress, timeout_s=timeout_s)
        engine.facts["login"] = given.get("hf_token")
        return engine


def pytest_slmperf_engines(config):
    return [Keyed()]
"""


def planted(place: str) -> str:
    return PLANTED.format(place)


def session(*arguments: str, suite: str = ONE, planted_in: str = "setting") -> Callable[[Bench], Ended]:
    """A session on that engine; "KEY" in an argument or in the suite is the planted key."""

    def act(bench: Bench) -> Ended:
        key = planted(planted_in)
        bench.write("conftest.py", KEYED)
        bench.environment |= {"OPENAI_API_KEY": planted("variable"), "HF_TOKEN": planted("variable")}
        words = [word.replace("KEY", key) for word in arguments]
        bench.write("test_perf.py", suite.replace("KEY", key))
        return bench.ended(bench.start("--slmperf", "--slmperf-engine", "keyed", *words))

    return act


def killed(bench: Bench) -> Ended:
    """A session is killed, whose engine has written its key into its log; the next session is not given that key."""
    hanging = ("--slmperf-set", "hf_token=KEY", "--slmperf-set", "fail=round-hang")
    bench.write("conftest.py", KEYED)
    bench.write("test_perf.py", ONE)
    words = [word.replace("KEY", planted("setting")) for word in hanging]
    process = bench.start("--slmperf", "--slmperf-engine", "keyed", *words)
    until_reached(bench, process)
    process.kill()
    bench.ended(process)
    assert any(b"Pl4nted" in log.read_bytes() for log in bench.folder.glob(".slmperf/logs/*.log"))
    return bench.ended(bench.start("--slmperf", "--slmperf-engine", "keyed"))


def nothing_planted(bench: Bench) -> str | None:
    """Where a planted value stands among what the session wrote."""
    for path in bench.folder.rglob("*"):
        if path.is_file() and path.name not in GIVEN and path.suffix != ".pyc" and b"Pl4nted" in path.read_bytes():
            text = path.read_bytes()
            at = text.index(b"Pl4nted")
            return f"{path.relative_to(bench.folder)}: {text[max(0, at - 80) : at + 30]!r}"
    return None


def silent(act: Callable[[Bench], Ended]) -> Callable[[Bench], Ended]:
    """The run, as one that ends wrongly where its output holds a planted value."""

    def run(bench: Bench) -> Ended:
        ended = act(bench)
        at = ended.output.find("Pl4nted")
        shown = f"shown: {ended.output[max(0, at - 80) : at + 30]!r}\nTraceback\n"
        return Ended(-1, shown + ended.output) if at >= 0 else ended

    return run


def key(id: str, injected: str, act: Callable[[Bench], Ended], code: int, says: str) -> Fault:
    return Fault(id, injected, silent(act), code, says, "the key's secrecy, in every output and file", nothing_planted)


def listed(*words: str, place: str) -> Callable[[Bench], Ended]:
    return lambda bench: bench.slmperf("baselines", *words, "--baselines", place.replace("KEY", planted("url")))


OUTPUTS = ("--slmperf-export", "csv=r.csv", "--slmperf-export", "bencher=b.json", "--slmperf-export", "openmetrics=o.prom",
           "--slmperf-save", "main", "-vv", "-rA")  # fmt: skip
MARKED = """
import pytest

@pytest.mark.slmperf(settings={"hf_token": "KEY"})
def test_first(slmperf):
    slmperf.offline(batch=1, input_len=16, output_len=16)
"""
IN_AN_ID = """
import pytest

@pytest.mark.parametrize("key", ["KEY"])
def test_first(slmperf, key):
    slmperf.offline(batch=1, input_len=16, output_len=16)
"""
IN_A_TRACEBACK = """
def test_first(slmperf):
    print("with KEY")
    slmperf.offline(batch=1, input_len=16, output_len=16)
    assert slmperf is None, "not with KEY"
"""
REFUSED = "cannot log in with …"

ROWS = [
    key(
        "key-in-setting",
        "a key in --slmperf-set",
        session("--slmperf-set", "hf_token=KEY", *OUTPUTS),
        0,
        "saved as 'main'",
    ),
    key("key-in-marker", "a key in the marker's settings", session(*OUTPUTS, suite=MARKED), 0, "saved as 'main'"),
    key(
        "key-in-duet",
        "a key in --slmperf-against",
        session("--slmperf-against", "engine.hf_token=KEY", *OUTPUTS[:-4]),
        0,
        "hf_token=…",
    ),
    key(
        "key-in-error",
        "an engine that says its key when it fails",
        session("--slmperf-set", "hf_token=KEY", "--slmperf-set", "refuses=true"),
        1,
        REFUSED,
    ),
    key("key-in-id", "a key in a test's id", session(suite=IN_AN_ID, planted_in="variable"), 4, "the id of this test"),
    key(
        "key-in-traceback",
        "a key in the source of a failing test, and in what it prints",
        session(suite=IN_A_TRACEBACK, planted_in="variable"),
        1,
        "not with …",
    ),
    key("key-in-killed-session", "a key in the log of a session that was killed", killed, 0, "1 new"),
    key(
        "password-in-url",
        "a password in the URL of a database that does not answer",
        session("--slmperf-baselines", "postgresql://u:KEY@127.0.0.1:9/db", planted_in="url"),
        1,
        "postgresql://u:…@127.0.0.1",
    ),
    key(
        "password-odd",
        "a password that holds # and ?",
        session("--slmperf-baselines", "postgresql://u:a#b?KEY@127.0.0.1:9/db", planted_in="url"),
        1,
        "postgresql://u:…@127.0.0.1",
    ),
    key(
        "password-in-query",
        "a password in the query of a URL",
        session("--slmperf-baselines", "postgresql://127.0.0.1:9/db?password=KEY", planted_in="url"),
        1,
        "postgresql://127.0.0.1:9/db?…",
    ),
    key(
        "password-listed",
        "baselines list of such a database",
        listed("list", place="postgresql://u:KEY@127.0.0.1:9/db"),
        4,
        "postgresql://u:…@127.0.0.1",
    ),
    key(
        "password-libpq",
        "libpq's form, host=… password=…",
        listed("list", place="host=127.0.0.1 password=KEY dbname=d"),
        4,
        "write postgresql://",
    ),
    key(
        "password-unknown-scheme",
        "a URL of a scheme that is not known, with a password",
        listed("list", place="mysql://u:KEY@127.0.0.1/db"),
        4,
        "is not known",
    ),
    key(
        "url-to-compare",
        "compare with such a URL",
        lambda bench: bench.slmperf("compare", f"postgresql://u:{planted('url')}@127.0.0.1:9/db", "x.json"),
        4,
        "postgresql://u:…@",
    ),
]
