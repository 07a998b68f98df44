"""--slmperf-device: unless it is given, the engine's adapter decides, and everything that follows the device follows it."""

from __future__ import annotations

import pytest

CONFTEST = """
from pytest_slmperf.engines.simulated.adapter import SimulatedAdapter

class Own(SimulatedAdapter):
    name = "own"

    def default_device(self, python=None):
        return "{device}"

    def resolve(self, spec):
        print("resolved with", spec.device, spec.max_num_seqs)
        return super().resolve(spec)

def pytest_slmperf_engines(config):
    return [Own()]
"""
SUITE = """
from pytest_slmperf import pick

def test_one(slmperf):
    print("sizes of a", pick(quick="cpu", gpu="gpu"))
"""


@pytest.mark.parametrize(("device", "kind", "seqs"), [("cpu", "cpu", 64), ("cuda:0", "gpu", 512)])
def test_header_and_sizes_follow_what_the_adapter_will_choose(perf, pytester, device, kind, seqs) -> None:
    pytester.makeconftest(CONFTEST.format(device=device))
    found = perf("-s", suite=SUITE, engine="own")
    found.stdout.fnmatch_lines(
        [f"slmperf: own serving * on {device}, *", f"*resolved with None {seqs}", f"*sizes of a {kind}"]
    )


def test_what_is_given_wins(perf, pytester) -> None:
    pytester.makeconftest(CONFTEST.format(device="cuda:0"))
    found = perf("-s", "--slmperf-device", "cpu", suite=SUITE, engine="own")
    found.stdout.fnmatch_lines(["slmperf: own serving * on cpu, *", "*resolved with cpu 64", "*sizes of a cpu"])
