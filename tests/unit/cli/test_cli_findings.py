import json
import re

import msgspec
import pytest

from pytest_slmperf.cli.main import main
from pytest_slmperf.model.result import Engine, Machine, Results, Session
from pytest_slmperf.model.result import Result as Record
from pytest_slmperf.model.results_file import encode


def record(test="t.py::test_<script>|x", name="vllm", speeds=(10.0, 40.0)):
    points = [{"key": 4**k, "output_throughput": v, "itl_mean": 5.0 + k} for k, v in enumerate(speeds)]
    scenario = {"kind": "sweep", "key": "batch", "objectives": ["output_throughput", "itl_mean"]}
    weights = "simulated" if name == "simulated" else "dummy"
    engine = Engine(name=name, version="1", model="opt-125m", weights=weights, device="cpu")
    return Record(id=test, scenario=scenario, engine=engine, points=points)


@pytest.fixture
def written(tmp_path):
    def write(name="results.json", machine="here", results=None):
        session = Session(id="s", started_at="2026-11-24T00:00:00Z", plugin_version="0")
        found = Results(session=session, machine=Machine(fingerprint=machine), results=results or [record()])
        (tmp_path / name).write_bytes(encode(found))
        return str(tmp_path / name)

    return write


def test_page(written, capsys):
    assert main(["findings", written()]) == 0
    page = capsys.readouterr().out
    rows = [line for line in page.splitlines() if re.match(r"\| S\d", line)]
    assert any("rises with the batch | holds" in row for row in rows)
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 7 for row in rows)  # the id's own bar is escaped
    assert "<script>" not in page


def test_json_and_output(written, tmp_path, capsys):
    name = written()
    assert main(["findings", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(found["counts"].values()) == len(found["findings"])
    assert main(["findings", name, "-o", str(tmp_path / "deep" / "page.md")]) == 0
    assert "holds" in capsys.readouterr().out
    assert (tmp_path / "deep" / "page.md").read_text().startswith("# Findings")


def test_a_simulated_page_says_so(written, capsys):
    assert main(["findings", written(results=[record(name="simulated")])]) == 0
    assert "**Simulated:" in capsys.readouterr().out


def test_the_same_results_count_once(written, capsys):
    name, copy, other = written(), written("copy.json"), written("other.json", results=[record(speeds=(10.0, 30.0))])
    main(["findings", name, other, "--json"])
    once = json.loads(capsys.readouterr().out)
    assert main(["findings", name, name, copy, other, "--json"]) == 0
    out, err = capsys.readouterr()
    left = [f"{name}: the same results as in {name}", f"{copy}: the same results as in {name}"]
    assert json.loads(out) == once | {"left_out": left}
    assert err == "".join(f"left out: {line}\n" for line in left)


@pytest.mark.parametrize("case", ["machines", "mixed", "empty", "absent", "folder"])
def test_bad_input(written, tmp_path, capsys, case):
    if case == "machines":
        names, told = [written(), written("other.json", machine="there")], "different machines"
    elif case == "mixed":
        names, told = [written(), written("sim.json", results=[record(name="simulated")])], "simulated"
    elif case == "empty":
        plain = msgspec.json.decode((tmp_path / "results.json").read_bytes()) if written() else {}
        (tmp_path / "none.json").write_text(json.dumps(plain | {"results": []}))
        names, told = [str(tmp_path / "none.json")], "none.json: holds no results"
    else:
        names, told = (
            [str(tmp_path / ("no.json" if case == "absent" else ""))],
            "read" if case == "absent" else "folder",
        )
    assert main(["findings", *names]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("point", [{}, {"key": None}, {"key": [1]}])
def test_a_point_that_says_not_what_it_is_of_is_refused_by_name(written, capsys, point):
    broken = record()
    broken.points[1] = point
    assert main(["findings", written(results=[broken])]) == 4
    assert "results.json: point 2 of 't.py::test_<script>|x' has no key" in capsys.readouterr().err
