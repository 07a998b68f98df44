"""Rows are judged, counted and marked, not keys; a dominated point is never advised; several devices are told apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_slmperf.cli.main import main

CASES = Path(__file__).parent / "cases"
GOALS = ["--key", "batch", "--max", "tps", "--min", "ms"]


@pytest.fixture
def table(tmp_path: Path):
    def write(*rows: str, head: str = "batch,tps,ms") -> str:
        path = tmp_path / "points.csv"
        path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
        return str(path)

    return write


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main(["frontier", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_dominated_point_is_never_advised(capsys):
    """192 keeps the bound and the scaling, but 128 is faster in both objectives."""
    found = answer(
        capsys, str(CASES / "aiperf-sweep.csv"), "--key", "concurrency", "--max", "output_token_throughput_mean",
        "--min", "inter_token_latency_mean", "--slo", "inter_token_latency_mean=40",
    )  # fmt: skip
    assert 192 not in found["frontier"]
    assert found["advice"]["key"] == 128


def test_nothing_is_advised_where_only_dominated_points_keep_the_bound(capsys, table):
    path = table("1,100,10", "2,90,5,1", "4,80,4,1", head="batch,tps,ms,watts")
    found = answer(capsys, path, *GOALS, "--slo", "tps>=95")
    assert found["advice"]["key"] == 1


def test_two_rows_of_one_key_are_two_points(capsys, table):
    """One of them is on the frontier, the other is not: the row says which."""
    path = table("1,100,10", "2,150,14", "2,190,13")
    found = answer(capsys, path, *GOALS)
    assert found["frontier"] == [1, 2]
    assert found["rows"] == [1, 3]
    assert found["advice"]["row"] == 3
    assert main(["frontier", path, *GOALS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("frontier:") and "(2 of 3 points)" in line for line in lines)
    (advised,) = [line for line in lines if line.rstrip().endswith("advised")]
    assert "190" in advised


@pytest.mark.parametrize("name", ["device", "GPU name", "engine", "run"])
def test_rows_of_several_devices_ask_for_by(capsys, table, name):
    """A column named after what is compared, or one that tells rows with the same key apart."""
    path = table("1,100,10,L4", "2,190,11,L4", "1,200,8,H100", "2,390,9,H100", head=f"batch,tps,ms,{name}")
    assert main(["frontier", path, *GOALS]) == 4
    error = capsys.readouterr().err
    assert f"--by {name!r}" in error
    assert "L4" in error
    found = answer(capsys, path, *GOALS, "--by", name)
    assert found["by"] == name
    assert [(group[name], group["frontier"], group["advice"]["key"]) for group in found["groups"]] == [
        ("L4", [1, 2], 2),
        ("H100", [1, 2], 2),
    ]


@pytest.mark.parametrize("name", ["tp", "num_gpus", "Tensor parallel size", "dtype"])
def test_repeats_of_several_numbers_of_devices_are_not_averaged(capsys, table, name):
    values = ("fp8", "bf16") if name == "dtype" else ("1", "2")
    rows = [
        f"{batch},{tps},{ms},{value}"
        for value, tps, ms in zip(values, (100, 190), (10, 9), strict=True)
        for batch in (1, 2)
    ]
    path = table(*rows, head=f"batch,tps,ms,{name}")
    for more in ((), ("--repeats",)):
        assert main(["frontier", path, *GOALS, *more]) == 4
        assert f"--by {name!r}" in capsys.readouterr().err
    assert [group[name] for group in answer(capsys, path, *GOALS, "--by", name)["groups"]] == list(values)


def test_a_number_of_devices_that_is_the_key_or_the_same_for_each_key_is_no_group(capsys, table):
    same = table("1,100,10,1", "2,190,11,2", head="batch,tps,ms,tp")
    assert answer(capsys, same, *GOALS)["frontier"] == [1, 2]
    key = table("1,100,10", "2,190,9", head="tp,tps,ms")
    assert answer(capsys, key, "--key", "tp", *[word for word in GOALS if word not in ("--key", "batch")])[
        "frontier"
    ] == [2]


def test_by_prints_a_table_for_each_value(capsys, table):
    path = table("1,100,10,L4", "2,190,11,L4", "1,200,8,H100", "2,390,9,H100", head="batch,tps,ms,device")
    assert main(["frontier", path, *GOALS, "--by", "device"]) == 0
    out = capsys.readouterr().out
    assert out.index("device L4") < out.index("device H100")
    assert out.count("knee:") == 2


def test_an_unknown_by_column_is_named(capsys, table):
    assert main(["frontier", table("1,100,10"), *GOALS, "--by", "devise"]) == 4
    assert "no column 'devise'" in capsys.readouterr().err


def test_a_column_of_names_that_are_unique_is_no_group(capsys, table):
    """A label of each row tells nothing apart that is not a point of its own."""
    path = table("1,100,10,a", "2,190,11,b", "4,300,15,c", head="batch,tps,ms,label")
    assert answer(capsys, path, *GOALS)["frontier"] == [1, 2, 4]


def test_repeats_are_one_point(capsys, table):
    path = table("1,100,10", "2,190,11", "2,192,11")
    found = answer(capsys, path, *GOALS, "--repeats")
    assert found["frontier"] == [1, 2]
    assert "rows" not in found
