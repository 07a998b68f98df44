"""What a user asks for by name and does not get is never green and never silent."""

from __future__ import annotations

import pytest

ROUND = """
import pytest

@pytest.mark.slmperf(gate={gate!r})
def test_batch(slmperf):
    slmperf.offline(batch=2, input_len=16, output_len=16)
"""


@pytest.mark.parametrize("others", [[], ["output_throughput"]])
def test_a_metric_that_the_test_gates_and_nothing_measures_is_not_green(perf, results, others):
    """Goodput belongs to loads: an offline round has none."""
    run = perf(suite=ROUND.format(gate=["goodput", *others]))
    assert run.parseoutcomes() == {"incomparable": 1}
    verdicts = {verdict["metric"]: verdict for verdict in results()["results"][0]["verdicts"]}
    assert verdicts["goodput"]["verdict"] == "incomparable"
    assert verdicts["goodput"]["gate"]
    assert "not measured" in verdicts["goodput"]["reason"]


def test_it_stays_so_beside_a_baseline(perf, results):
    suite = ROUND.format(gate=["goodput", "output_throughput"])
    perf("--slmperf-approve", suite=suite)
    assert perf(suite=suite).parseoutcomes() == {"incomparable": 1}


def test_energy_without_a_meter_gates_nothing(perf, results):
    """One suite serves machines with a meter and machines without."""
    suite = ROUND.format(gate=["energy_per_output_token", "output_throughput"])
    assert perf("--slmperf-meter", "none", suite=suite).parseoutcomes() == {"new": 1}
    verdicts = {verdict["metric"]: verdict for verdict in results()["results"][0]["verdicts"]}
    assert verdicts["energy_per_output_token"]["verdict"] == "incomparable"
    assert not verdicts["energy_per_output_token"]["gate"]


def test_a_meter_that_is_asked_for_and_cannot_measure_is_named(perf, pytester):
    pytester.makeconftest(
        """
        from pytest_slmperf import PolledMeter

        class Candle(PolledMeter):
            name = "candle"

            def __init__(self):
                super().__init__()
                self.reason = "it is not lit"

            def counters(self):
                return []

        def pytest_slmperf_meters(config):
            return [Candle()]
        """
    )
    run = perf("--slmperf-meter", "candle")
    run.stdout.fnmatch_lines(["note: --slmperf-meter candle measures nothing: candle: it is not lit"])


def test_an_added_engine_that_says_it_is_simulated_is_marked_as_such(perf, results, pytester):
    """The trait marks the figures, whatever the worker says of its weights."""
    pytester.makeconftest(
        """
        from dataclasses import replace
        from pathlib import Path
        from pytest_slmperf import EngineAdapter, EngineProcess, EngineTraits

        class Paper(EngineAdapter):
            name = "paper"
            traits = EngineTraits(simulated=True)

            def resolve(self, spec):
                return replace(spec, weights="dummy", device="cpu")

            def launch(self, spec, *, log_path, progress, timeout_s=900.0):
                engine = EngineProcess(spec, Path(__file__).with_name("paper_worker.py"), log_path, python=spec.python)
                engine.start(spec.as_dict(), progress, timeout_s)
                return engine

        def pytest_slmperf_engines(config):
            return [Paper()]
        """
    )
    pytester.makepyfile(
        paper_worker="""
        import time

        class Paper:
            def start(self):
                return {"version": "1", "device": "cpu", "weights": "dummy", "t_first_served": time.monotonic()}

            def reset_caches(self):
                return {}

            def generate(self, batch, input_len, output_len, **rest):
                start = time.monotonic()
                time.sleep(0.01)
                end = time.monotonic()
                rows = [[start, end, end, input_len, output_len]] * batch
                return {"t_start": start, "t_end": end, "n_in": batch * input_len, "n_out": batch * output_len,
                        "completed": batch, "requests": rows}

        def create(spec, report):
            return Paper()
        """
    )
    run = perf(
        "--slmperf-launches",
        "1",
        suite="def test_a(slmperf):\n    slmperf.offline(batch=2, input_len=8, output_len=8)\n",
        engine="paper",
    )
    assert run.ret == 0
    assert results()["results"][0]["engine"]["weights"] == "simulated"
    run.stdout.fnmatch_lines(["*SIMULATED*"])
