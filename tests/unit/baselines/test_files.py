import json
import os
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
import pytest

from pytest_slmperf.baselines.stores.files import FileStore
from pytest_slmperf.environment import fingerprint
from pytest_slmperf.errors import BaselineError, InvalidInput
from pytest_slmperf.model.energy import Energy
from pytest_slmperf.model.result import Launch
from pytest_slmperf.model.verdict import Verdict, VerdictRecord

WILD_IDS = [
    "t.py::test[<script>alert(1)</script>]",
    "t.py::test[\"quoted\" 'both']",
    "t.py::test[🎉 ünï]",
    "t.py::test[a\nb\r\n]",
    "t.py::test[../../../../etc/passwd]",
    "t.py::test[" + "x" * 300 + "]",
    "/" * 40,
    "..::..",
    "::",
    "t.py::test[\udc80]",
    "t.py::test[CON]",
    "t.py::test[a]",
    "t.py::test[A]",
]


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path / "baselines")


def test_saved_and_loaded(store, make_result, make_session, make_machine):
    result = make_result(output_throughput=[[346.2345678, 347.9], [345.8]], ttft_p99=[[10.5]])
    store.save("main", result, make_session(), make_machine(), "first figures", approved_at="2026-11-01T11:00:00Z")
    loaded = store.load(fingerprint.of(make_machine(), result.engine), "main", result.id)
    assert loaded.id == result.id
    assert loaded.work == {
        "kind": "offline", "batch": 16, "input_len": 32, "output_len": 32,
        "model": "opt-125m", "dtype": "bfloat16", "replicas": 1,
    }  # fmt: skip
    session = loaded.newest
    assert session.metrics["output_throughput"].launches == [[346.235, 347.9], [345.8]]
    assert session.metrics["ttft_p99"].unit == "ms"
    assert session.reason == "first figures"
    assert session.approved_at == "2026-11-01T11:00:00Z"
    assert session.engine_version == "0.32.0"


def test_absent_is_none(store, make_result, make_session, make_machine):
    assert store.load("somewhere", "main", "t.py::t") is None
    assert store.all() == []
    store.save("main", make_result(), make_session(), make_machine())
    assert store.load(store.fingerprints()[0], "other", make_result().id) is None


def test_file_reads_well_in_a_diff(store, make_result, make_session, make_machine):
    store.save("main", make_result(output_throughput=[[1.0, 2.123456789], [3.5]]), make_session(), make_machine())
    (path,) = store.paths()
    text = path.read_text()
    assert re.fullmatch(r"perf_tests\.test_offline/test_batch-16-[0-9a-f]{8}\.json", "/".join(path.parts[-2:]))
    assert "[1, 2.12346]" in [line.strip().rstrip(",") for line in text.splitlines()]  # one launch, one line
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))
    first = path.read_bytes()
    store.put(store.all()[0])
    assert path.read_bytes() == first  # writing what was read changes nothing


def test_sessions_are_added_and_bounded(store, make_result, make_session, make_machine):
    for number in range(1, 12):
        store.save("main", make_result(), make_session(number), make_machine())
    (baseline,) = store.all()
    assert [one.id for one in baseline.sessions] == [f"session-{number}" for number in range(4, 12)]


def test_the_same_session_saved_twice_counts_once(store, make_result, make_session, make_machine):
    store.save("main", make_result(output_throughput=[[1.0]]), make_session(), make_machine())
    store.save("main", make_result(output_throughput=[[2.0]]), make_session(), make_machine())
    (session,) = store.all()[0].sessions
    assert session.metrics["output_throughput"].launches == [[2.0]]


@pytest.mark.parametrize(
    "change",
    [
        {"engine": {"version": "0.33.0"}},
        {"engine": {"settings": {"enforce_eager": False}}},
        {"scenario": {"kind": "offline", "batch": 32}},
        {"fields": {"verdicts": [VerdictRecord(metric="output_throughput", verdict=Verdict.IMPROVED)]}},
    ],
)
def test_what_must_not_be_mixed_replaces(store, make_result, make_session, make_machine, change):
    store.save("main", make_result(), make_session(1), make_machine())
    store.save("main", make_result(**change), make_session(2), make_machine())
    assert [one.id for one in store.all()[0].sessions] == ["session-2"]


def test_a_duets_verdict_says_nothing_of_what_is_stored(store, make_result, make_session, make_machine):
    store.save("main", make_result(), make_session(1), make_machine())
    regressed = [VerdictRecord(metric="output_throughput", verdict=Verdict.REGRESSED)]
    duet = make_result(fields={"verdicts": regressed, "launches": [Launch(index=0, side="baseline")]})
    store.save("main", duet, make_session(2), make_machine())
    assert len(store.all()[0].sessions) == 2


def test_mode_says_otherwise(store, make_result, make_session, make_machine):
    store.save("main", make_result(), make_session(1), make_machine())
    store.save("main", make_result(engine={"version": "9"}), make_session(2), make_machine(), mode="extend")
    assert len(store.all()[0].sessions) == 2
    store.save("main", make_result(), make_session(3), make_machine(), mode="replace")
    assert len(store.all()[0].sessions) == 1


def test_every_test_id_has_a_file_of_its_own_inside_the_root(store, make_result, make_session, make_machine):
    for number, test_id in enumerate(WILD_IDS, start=1):
        store.save("main", make_result(test_id, output_throughput=[[float(number)]]), make_session(), make_machine())
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert len(files) == len(WILD_IDS)
    assert len({str(path).lower() for path in files}) == len(WILD_IDS)  # also where case does not count
    for path in files:
        assert set(path.name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
        assert len(path.name) < 100
        assert store.root.resolve() in path.resolve().parents
    name = fingerprint.of(make_machine(), make_result().engine)
    for number, test_id in enumerate(WILD_IDS, start=1):
        found = store.load(name, "main", test_id)
        assert found.newest.metrics["output_throughput"].launches == [[number]]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a" * 65, "a b", "ä"])
def test_wrong_baseline_names_are_refused(store, name, make_result, make_session, make_machine):
    with pytest.raises(InvalidInput, match="baseline name"):
        store.save(name, make_result(), make_session(), make_machine())
    assert not store.root.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0])
def test_a_wrong_value_never_becomes_a_baseline(store, value, make_result, make_session, make_machine):
    with pytest.raises(InvalidInput, match=r"test_batch\[16\]: metric 'output_throughput' has the value"):
        store.save("main", make_result(output_throughput=[[1.0, value]]), make_session(), make_machine())
    assert not list(store.paths())


def test_nothing_measured_is_not_saved(store, make_result, make_session, make_machine):
    result = make_result(output_throughput=[], fields={"failure": "the engine was killed"})
    with pytest.raises(InvalidInput, match=r"nothing was measured.*the engine was killed"):
        store.save("main", result, make_session(), make_machine())


def _valid(store, make_result, make_session, make_machine) -> Path:
    store.save("main", make_result(), make_session(), make_machine())
    (path,) = store.paths()
    return path


BROKEN = {
    "empty": (b"", "is empty"),
    "blank": (b" \n", "is empty"),
    "not json": (b"<html>", "not valid JSON"),
    "binary": (bytes(range(256)), "not UTF-8 text"),
    "another shape": (b"[1]", "not a slmperf"),
    "no version": (b"{}", "not a slmperf"),
    "newer": (b'{"schema_version": 99}', "schema version 99.*upgrade"),
    "fields missing": (b'{"schema_version": 1}', "not a usable baseline.*missing required field"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_and_left_as_it_is(store, kind, make_result, make_session, make_machine):
    path = _valid(store, make_result, make_session, make_machine)
    data, message = BROKEN[kind]
    path.write_bytes(data)
    name = fingerprint.of(make_machine(), make_result().engine)
    for action in (
        lambda: store.load(name, "main", make_result().id),
        lambda: store.save("main", make_result(), make_session(2), make_machine()),
        lambda: store.elsewhere("main", make_result().id),
        store.all,
    ):
        with pytest.raises(BaselineError, match=message) as caught:
            action()
        assert str(path) in str(caught.value)
    assert path.read_bytes() == data


def _set(*keys):
    """A change of a stored document: the value at a path of keys replaced."""

    def change(data, value):
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return change


THROUGHPUT = ("sessions", 0, "metrics", "output_throughput")
EDITED = {
    "id": (
        _set("id"),
        "perf_tests/test_offline.py::test_batch[17]",
        r"its field 'id' is '.*\[17\]', whose file is .*17-",
    ),
    "fingerprint": (
        _set("fingerprint"),
        "elsewhere",
        "its field 'fingerprint' is 'elsewhere', but it lies under 'amd-",
    ),
    "zero": (
        _set(*THROUGHPUT, "launches", 1, 0),
        0.0,
        r"'output_throughput' has the value 0.0 in launch 2, round 1.* > 0",
    ),
    "negative": (
        _set(*THROUGHPUT, "launches", 0, 1),
        -3,
        "'output_throughput' has the value -3.* in launch 1, round 2",
    ),
    "NaN": (_set(*THROUGHPUT, "launches", 0, 1), float("nan"), "line 1, after the field 'launches', holds NaN"),
    "unit": (
        _set(*THROUGHPUT, "unit"),
        "tok/min",
        "'output_throughput' has the field 'unit' 'tok/min'.* must be 'tok/s'",
    ),
    "direction": (_set(*THROUGHPUT, "better"), "lower", "'output_throughput' has the field 'better' 'lower'"),
    "no launch": (_set(*THROUGHPUT, "launches"), [], "'output_throughput' has no launch"),
    "no round": (_set(*THROUGHPUT, "launches", 0), [], "'output_throughput' has a launch without a round"),
    "bounds": (_set(*THROUGHPUT, "bounds"), [0.1], "'output_throughput' has 1 bounds for 2 launches"),
    "no metric": (_set("sessions", 0, "metrics"), {}, "session-1: holds no metric"),
    "no session": (_set("sessions"), [], "holds no session"),
}


@pytest.mark.parametrize("kind", EDITED)
def test_a_file_edited_by_hand_is_refused_with_its_field(store, kind, make_result, make_session, make_machine):
    path = _valid(store, make_result, make_session, make_machine)
    change, value, message = EDITED[kind]
    data = json.loads(path.read_text())
    change(data, value)
    path.write_text(json.dumps(data))
    before = path.read_bytes()
    with pytest.raises(BaselineError, match=message) as caught:
        store.all("main")
    assert str(caught.value).startswith(str(path))
    assert "estore it from version control, or delete it" in str(caught.value)
    assert path.read_bytes() == before


def test_a_folder_copied_to_another_name_is_a_baseline_of_that_name(store, make_result, make_session, make_machine):
    path = _valid(store, make_result, make_session, make_machine)
    shutil.copytree(path.parents[1], path.parents[1].with_name("release"))
    (copy,) = store.all("release")
    assert copy.name == "release"
    store.delete(copy)
    assert store.all("release") == []
    assert path.is_file()


def test_every_truncation_is_refused(store, make_result, make_session, make_machine):
    path = _valid(store, make_result, make_session, make_machine)
    whole = path.read_bytes()
    name = fingerprint.of(make_machine(), make_result().engine)
    for length in range(0, len(whole) - 2, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(BaselineError, match=re.escape(str(path))):
            store.load(name, "main", make_result().id)


def test_a_huge_file_is_refused_without_reading_it(store, make_result, make_session, make_machine):
    path = _valid(store, make_result, make_session, make_machine)
    with path.open("wb") as file:
        file.truncate(100 * 2**20)
    with pytest.raises(BaselineError, match=r"100 MiB is more than the 8 MiB"):
        store.all()
    assert path.stat().st_size == 100 * 2**20


@pytest.mark.parametrize("value", ["1e999", "-5", "null", '"12"', "true"])
def test_wrong_numbers_in_a_file_are_refused(store, value, make_result, make_session, make_machine):
    path = _valid(store, make_result, make_session, make_machine)
    path.write_text(path.read_text().replace("346.2", value))
    with pytest.raises(BaselineError, match=re.escape(str(path))):
        store.all()


def test_a_file_renamed_by_hand_is_refused(store, make_result, make_session, make_machine):
    path = _valid(store, make_result, make_session, make_machine)
    other = store.path(store.fingerprints()[0], "main", "t.py::other")
    other.parent.mkdir(parents=True)
    path.rename(other)
    with pytest.raises(BaselineError, match="field 'id' is 'perf_tests/test_offline"):
        store.load(store.fingerprints()[0], "main", "t.py::other")


def test_unknown_fields_of_a_later_minor_version_are_read_over(store, make_result, make_session, make_machine):
    path = _valid(store, make_result, make_session, make_machine)
    path.write_text(path.read_text().replace("{", '{"later": [1],', 1))
    assert store.all()[0].id == make_result().id


def test_a_crash_before_the_rename_leaves_the_old_file(store, monkeypatch, make_result, make_session, make_machine):
    path = _valid(store, make_result, make_session, make_machine)
    before = path.read_bytes()

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        store.save("main", make_result(), make_session(2), make_machine())
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing half-written is left


def test_a_full_disk_says_so_and_keeps_the_old_file(store, monkeypatch, make_result, make_session, make_machine):
    path = _valid(store, make_result, make_session, make_machine)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BaselineError, match="the disk is full; free some space"):
        store.save("main", make_result(), make_session(2), make_machine())
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_root_that_is_a_file_says_so(tmp_path, make_result, make_session, make_machine):
    (tmp_path / "baselines").write_text("not a folder")
    with pytest.raises(BaselineError, match="baselines"):
        FileStore(tmp_path / "baselines").save("main", make_result(), make_session(), make_machine())


def test_a_read_only_place_says_so(make_result, make_session, make_machine):
    # A file system that refuses writing to root as well, without mounting one.
    with pytest.raises(BaselineError, match=r"/proc/.*cannot be written"):
        FileStore("/proc/slmperf-baselines").save("main", make_result(), make_session(), make_machine())


def _save_one(root: str, encoded: tuple[bytes, ...]) -> None:
    from pytest_slmperf.model.result import Machine, Result, Session

    types = (Result, Session, Machine)
    result, session, machine = (msgspec.json.decode(data, type=kind) for data, kind in zip(encoded, types, strict=True))
    FileStore(root).save("main", result, session, machine)
    FileStore(root).remember(result, session, machine)


def test_sessions_that_save_at_once_lose_nothing(store, make_result, make_session, make_machine):
    jobs = [
        tuple(msgspec.json.encode(value) for value in (make_result(), make_session(number), make_machine()))
        for number in range(1, 9)
    ]
    with ProcessPoolExecutor(4) as pool:
        for future in [pool.submit(_save_one, str(store.root), job) for job in jobs]:
            future.result()
    (baseline,) = store.all()
    assert {one.id for one in baseline.sessions} == {f"session-{number}" for number in range(1, 9)}
    assert len(store.history(baseline.fingerprint, baseline.id)) == 8


def test_energy_carries_its_bound_per_launch(store, make_result, make_session, make_machine):
    energy = Energy(source="nvml-counter", joules=200.0, bound_j=5.0)
    result = make_result(
        energy_per_output_token=[[0.1], [0.2]], output_throughput=[[1.0], [1.0]], fields={"energy": energy}
    )
    metrics = store.save("main", result, make_session(), make_machine()).newest.metrics
    assert metrics["energy_per_output_token"].bounds == [0.025, 0.025]
    assert metrics["output_throughput"].bounds == []


def test_secrets_and_process_facts_reach_no_file(store, make_result, make_session, make_machine):
    engine = {
        "settings": {
            "settings": {"api_key": "sk-123", "hf_token": "hf-456", "block_size": 16},
            "python": "/opt/x/python",
        },
        "facts": {"pid": 4711, "threads": 1, "load_s": 12.345, "arguments": {"model": "/home/me/models/opt"}},
    }
    store.save("main", make_result(engine=engine), make_session(), make_machine())
    (path,) = store.paths()
    text = path.read_text()
    assert "sk-123" not in text
    assert "hf-456" not in text
    for gone in ("4711", "12.345", "/home", "/opt"):
        assert gone not in text
    assert '"block_size": 16' in text
    assert '"threads": 1' in text


def test_delete_removes_the_file_and_empty_folders(store, make_result, make_session, make_machine):
    _valid(store, make_result, make_session, make_machine)
    (baseline,) = store.all()
    store.delete(baseline)
    store.delete(baseline)  # twice is fine
    assert store.all() == []
    assert not (store.root / baseline.fingerprint / "main").exists()
