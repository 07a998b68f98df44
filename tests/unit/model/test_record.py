"""What records say of themselves."""

import pytest

from pytest_slmperf.errors import NotMeasured
from pytest_slmperf.measuring.handle import Measurement
from pytest_slmperf.measuring.studies.sweep_result import MeasuredSweep
from pytest_slmperf.model.result import FailedTest
from pytest_slmperf.model.verdict import Verdict, VerdictRecord
from pytest_slmperf.scenarios.sweep import Sweep

OPEN = VerdictRecord(
    metric="output_throughput", verdict=Verdict.INCONCLUSIVE, reason="environment: too many neighbours"
)


def test_an_inconclusive_result_without_readings_ends_its_test_the_same_way_everywhere(make_result):
    result = make_result(output_throughput=[], fields={"verdicts": [OPEN]})
    sweep = MeasuredSweep(Sweep.of({"batch": [1, 2], "input_len": 8, "output_len": 8}), result, lambda *_: result)
    for ask in (lambda: Measurement(result)["ttft_p99"], lambda: sweep["ttft_p99"], lambda: sweep.knee()):
        with pytest.raises(NotMeasured, match="was not measured: environment: too many neighbours"):
            ask()
    result.verdicts = []  # nothing is open: what is missing is the test's own mistake
    with pytest.raises(LookupError, match="has no metric 'ttft_p99'"):
        Measurement(result)["ttft_p99"]


def test_a_failed_tests_results_are_known_by_their_ids(make_results):
    session = make_results().session
    session.failed_tests = [FailedTest(id="t.py::slo", reason="AssertionError")]
    known = {one for one in ("t.py::slo", "t.py::slo#2", "t.py::slo::k=1", "t.py::slo_too") if session.own_failure(one)}
    assert known == {"t.py::slo", "t.py::slo#2", "t.py::slo::k=1"}
    session.failed_tests = [FailedTest(id="t.py::slo", reason="[XPASS(strict)] slow", unexpected_pass=True)]
    assert session.own_failure("t.py::slo") is None
