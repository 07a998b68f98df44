import importlib.util
import json

import pytest

from pytest_slmperf.baselines.stores.files import FileStore
from pytest_slmperf.model.energy import Energy, Metered

TEST = "perf_tests/test_offline.py::test_batch[16]"
LEVELS = [100.0, 101, 99, 100, 100, 100.5, 90, 91, 90, 89, 90, 91]  # a step of −10 % at the seventh session


@pytest.fixture
def history(tmp_path, make_result, make_session, make_machine):
    store = FileStore(tmp_path / "baselines")
    for number, level in enumerate(LEVELS, start=1):
        result = make_result(output_throughput=[[level, level], [level + 1]], ttft_p99=[[5.0]])
        store.remember(result, make_session(number), make_machine(), approved=number == 1)
    return store


def test_values_over_commits_with_the_change_point(command, history):
    pytest.importorskip("otava", reason="apache-otava is not installed (extra 'history')")
    run = command("history", "test_batch")
    assert run.code == 0
    assert f"{TEST}  output_throughput in tok/s" in run.out
    rows = [line for line in run.out.splitlines() if line.startswith("2026-")]
    assert len(rows) == len(LEVELS)
    assert [row for row in rows if "◀" in row] == [rows[6]]
    assert "worse from here: −10." in rows[6] or "worse from here: −9." in rows[6]
    assert rows[6].split()[2] == "7" * 10
    assert "approved" in rows[0]
    assert "approved" not in rows[1]
    assert "for trends only" in run.out


def test_without_otava_the_values_stand_and_the_mend_is_named(command, history, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "otava" else real(name))
    run = command("history", TEST)
    assert run.code == 0
    assert "change points need apache-otava: pip install 'pytest-slmperf[history]'" in run.out
    assert json.loads(command("history", TEST, "--json").out)[0]["steps"] is None


def test_json_and_metric(command, history):
    (trend,) = json.loads(command("history", TEST, "--metric", "ttft_p99", "--json").out)
    assert [point["value"] for point in trend["points"]] == [5.0] * len(LEVELS)
    assert (trend["unit"], trend["steps"]) in (("ms", []), ("ms", None))
    assert "trends only" in trend["caution"]


def test_a_history_of_sessions_without_a_round_says_so(command, tmp_path, make_result, make_session, make_machine):
    store = FileStore(tmp_path / "baselines")
    store.remember(make_result(output_throughput=[[], []]), make_session(), make_machine())
    run = command("history", TEST)
    assert run.code == 4
    assert "holds no reading" in run.err


def test_a_metric_at_one_point_of_a_sweep_has_its_unit(command, tmp_path, make_result, make_session, make_machine):
    result = make_result(**{"output_throughput@8": [[100.0]], "knee_key": [[8.0]]})
    FileStore(tmp_path / "baselines").remember(result, make_session(), make_machine())
    told = command("history", TEST, "--metric", "output_throughput@8").out
    assert f"{TEST}  output_throughput@8 in tok/s\n" in told
    assert f"{TEST}  knee_key\n" in command("history", TEST, "--metric", "knee_key").out


@pytest.mark.parametrize(("name", "worse"), [("output_throughput@8", True), ("ttft_p99@8", False), ("own", None)])
def test_a_step_at_one_point_of_a_sweep_has_its_direction(name, worse, monkeypatch):
    from pytest_slmperf.baselines import trend
    from pytest_slmperf.model.baseline import HistoryPoint
    from pytest_slmperf.statistics import changepoints

    step = changepoints.ChangePoint(index=6, change=-0.1, before=100.0, after=90.0, p_value=0.001)
    monkeypatch.setattr(changepoints, "change_points", lambda values: [step])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    points = [HistoryPoint(session=f"{n}", started_at=f"{n:02d}", launches={name: [v]}) for n, v in enumerate(LEVELS)]
    assert [one.worse for one in trend.of_points(points, "system", TEST, name).steps] == [worse]


def test_last(command, history):
    rows = [line for line in command("history", TEST, "--last", "3").out.splitlines() if line.startswith("2026-")]
    assert len(rows) == 3
    assert command("history", TEST, "--last", "0").code == 4


def test_sessions_with_other_work_are_left_out_and_counted(command, history, make_result, make_session, make_machine):
    other = make_result(scenario={"kind": "offline", "batch": 99})
    history.remember(other, make_session(20), make_machine())
    out = command("history", TEST).out
    assert "12 older sessions did other work: left out" in out


def test_figures(command, history, tmp_path):
    pytest.importorskip("vl_convert", reason="the report extra is not installed")
    run = command("history", TEST, "--figures", "figures")
    assert run.out.count("figure: figures/") == 2
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".svg", ".png"}


def test_several_systems_are_shown_one_by_one(command, history, make_result, make_session, make_machine):
    history.remember(make_result(), make_session(2), make_machine(cpu={"model": "Other", "cores": 4}))
    assert len(json.loads(command("history", TEST, "--json").out)) == 2
    assert len(json.loads(command("history", TEST, "--json", "--fingerprint", "other").out)) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonesuch"], "no history of a test like 'nonesuch'"),
        ([TEST, "--metric", "goodput"], "holds no metric 'goodput'"),
        ([TEST, "--baselines", "elsewhere"], "no history of a test like"),
    ],
)
def test_wrong_questions(command, history, words, said):
    run = command("history", *words)
    assert run.code == 4
    assert said in run.err


def test_a_part_that_names_several_tests_is_refused(command, history, make_result, make_session, make_machine):
    history.remember(make_result("perf_tests/test_offline.py::test_batch[32]"), make_session(), make_machine())
    run = command("history", "test_batch")
    assert run.code == 4
    assert "names 2 tests" in run.err


def test_mixed_schemas_are_refused(command, history, tmp_path):
    (path,) = (tmp_path / "baselines").rglob("*.jsonl")
    with path.open("a") as file:
        file.write('{"schema_version": 2, "session": "later"}\n')
    run = command("history", TEST)
    assert run.code == 4
    assert "schema version 2" in run.err
    assert "upgrade" in run.err


def test_a_line_cut_short_is_passed_over(command, history, tmp_path):
    (path,) = (tmp_path / "baselines").rglob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-20])
    assert len(json.loads(command("history", TEST, "--json").out)[0]["points"]) == len(LEVELS) - 1


def test_joules_of_another_meter_are_left_out_and_those_of_no_told_one_named(
    command, tmp_path, make_result, make_session, make_machine
):
    store = FileStore(tmp_path / "baselines")
    here = Metered(source="nvml-counter", scope="gpu", devices={"H100": 1})
    for number, on in enumerate([None, Metered(source="rapl", scope="package", devices={"package": 1}), here], start=1):
        result = make_result(energy_per_output_token=[[0.1 * number]], fields={"energy": Energy(metered=on)})
        store.remember(result, make_session(number), make_machine())
    out = command("history", TEST).out
    assert len([line for line in out.splitlines() if line.startswith("2026-")]) == 2
    assert "1 session with energy counted by another meter, scope or set of devices: left out" in out
    assert "1 older session without a word on what counted the energy" in out
