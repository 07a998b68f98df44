import json
import subprocess
import sys

import pytest

from pytest_slmperf.contrib.exporters import PytestBenchmarkExporter
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.result import Launch, Round


@pytest.fixture
def timed(make_result):
    """A result with the times of its rounds: 1.0 s, 1.2 s, a contaminated one, and 2.0 s on the baseline side."""
    rounds = [Round(t_start=0.0, t_end=1.0), Round(t_start=5.0, t_end=6.2)]
    bad = Round(t_start=9.0, t_end=19.0, contaminated="steal")
    launches = [
        Launch(index=0, rounds=[*rounds, bad], warmup_rounds=2),
        Launch(index=0, rounds=[Round(t_start=0.0, t_end=2.0)], side="baseline"),
    ]
    return make_result(fields={"launches": launches})


def test_clean_candidate_rounds_are_the_data(timed, make_results):
    document = json.loads(PytestBenchmarkExporter().export(make_results(timed)))
    (entry,) = document["benchmarks"]
    assert entry["stats"]["data"] == pytest.approx([1.0, 1.2])
    assert entry["stats"]["mean"] == pytest.approx(1.1)
    assert entry["stats"]["rounds"] == 2
    assert entry["name"] == "test_batch[16]"
    assert entry["param"] == "16"
    assert entry["extra_info"]["metrics"]["output_throughput"] == pytest.approx(347.0)
    assert document["commit_info"]["id"] == "1" * 40


def test_pytest_benchmark_compare_reads_it(timed, make_results, tmp_path):
    for number in (1, 2):
        path = tmp_path / f"000{number}_x.json"
        path.write_bytes(PytestBenchmarkExporter().export(make_results(timed, number=number)))
    code = "import sys; from pytest_benchmark.cli import main; sys.exit(main())"
    command = [sys.executable, "-W", "error::SyntaxWarning", "-c", code, "compare"]
    files = sorted(str(path) for path in tmp_path.glob("*.json"))
    run = subprocess.run([*command, *files, "--columns=mean,rounds"], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("test_batch[16] (") == 2
    assert "1.1000" in run.stdout


def test_without_round_times_it_says_so(make_result, make_results):
    with pytest.raises(InvalidInput, match="no result holds the times of its rounds"):
        PytestBenchmarkExporter().export(make_results(make_result()))
