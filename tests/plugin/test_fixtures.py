"""The fixtures by themselves: an engine that is resident and pooled, a meter that says why it cannot measure."""

from __future__ import annotations


def test_engine_is_pooled_and_started_once_per_launch(perf, pytester):
    suite = """
import pytest

seen = []

@pytest.mark.parametrize("batch", [1, 2, 4])
def test_batch(slmperf, slm_engine, batch):
    slmperf.offline(batch=batch, input_len=16, output_len=16)
    seen.append(slm_engine.facts["pid"])
    assert len(set(seen)) == 1
"""
    result = perf(suite=suite)
    assert result.parseoutcomes() == {"new": 3}
    logs = sorted(path.name for path in (pytester.path / ".slmperf/logs").iterdir())
    assert len(logs) == 2  # launch 0 and launch 1 of the one specification, for three tests


def test_engine_can_be_parametrized(perf, results):
    suite = """
import pytest

@pytest.mark.parametrize("slm_engine", [{"model": "opt-350m"}, {"max_num_seqs": 2}], indirect=True, ids=["350m", "two"])
def test_engine(slmperf, slm_engine):
    slmperf.offline(batch=2, input_len=16, output_len=16)
"""
    assert perf(suite=suite).parseoutcomes() == {"new": 2}
    first, second = results()["results"]
    assert first["engine"]["model"] == "opt-350m"
    assert second["engine"]["settings"]["max_num_seqs"] == 2


def test_marker_chooses_the_model(perf, results):
    suite = """
import pytest

@pytest.mark.slmperf(model="pythia-160m", settings={"overhead_ms": 2.0})
def test_model(slmperf):
    slmperf.offline(batch=2, input_len=16, output_len=16)
"""
    perf(suite=suite)
    (entry,) = results()["results"]
    assert entry["engine"]["model"] == "pythia-160m"


def test_unavailable_meter_says_why(perf):
    suite = """
def test_meter(energy_meter):
    assert not energy_meter.available
    assert "switched off" in energy_meter.reason
"""
    perf("--slmperf-meter", "none", suite=suite).assert_outcomes(passed=1)


def test_engine_of_another_plugin(perf, pytester, results):
    """An adapter given by a conftest is chosen by its name."""
    pytester.makeconftest("""
from pytest_slmperf.engines.simulated.adapter import SimulatedAdapter

class Mine(SimulatedAdapter):
    name = "mine"

def pytest_slmperf_engines(config):
    return [Mine()]
""")
    result = perf(
        engine="mine", suite="def test_one(slmperf):\n    slmperf.offline(batch=1, input_len=8, output_len=8)\n"
    )
    assert result.ret == 0
    assert results()["results"][0]["engine"]["name"] == "mine"


NOTHING_MEASURED = """
import pytest

@pytest.mark.slmperf(launches=2)
def test_without_the_fixture():
    pass

def test_that_never_measures(slmperf):
    pass

def test_that_asks_late(request):
    request.getfixturevalue("slmperf")

@pytest.mark.slmperf(launches=2)
def test_that_asks_late_and_measures(request):
    request.getfixturevalue("slmperf").offline(batch=1, input_len=8, output_len=8)

@pytest.mark.slmperf(model="opt-350m")
def test_of_the_engine(slm_engine):
    assert slm_engine.facts

@pytest.mark.slmperf(launches=2)
def test_that_skips():
    pytest.skip("not today")

def test_of_something_else():
    pass
"""


def test_a_performance_test_that_measures_nothing_fails(perf):
    result = perf(suite=NOTHING_MEASURED)
    assert result.parseoutcomes() == {"failed": 3, "new": 1, "passed": 2, "skipped": 1}
    result.stdout.fnmatch_lines(["*measured nothing*", "*FAILED *::test_without_the_fixture*"])
    without = perf(engine=None, suite=NOTHING_MEASURED)
    assert without.parseoutcomes() == {"passed": 1, "skipped": 6}


def test_measuring_in_a_teardown_is_refused_and_in_a_setup_is_judged(perf, results):
    suite = """
import pytest

@pytest.fixture
def before(slmperf):
    slmperf.offline(batch=1, input_len=8, output_len=8)

@pytest.fixture
def after(slmperf):
    yield
    slmperf.offline(batch=2, input_len=8, output_len=8)

def test_before(before): ...

def test_after(after, slmperf):
    slmperf.offline(batch=3, input_len=8, output_len=8)
"""
    result = perf(suite=suite)
    assert result.parseoutcomes() == {"new": 2, "errors": 1}
    result.stdout.fnmatch_lines(["slmperf measures in the body of a test*would be judged by nobody"])
    assert [one["id"] for one in results()["results"]] == ["test_perf.py::test_before", "test_perf.py::test_after"]
