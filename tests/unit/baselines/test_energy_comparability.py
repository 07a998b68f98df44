"""Joules are compared with joules of the same kind of meter and devices only."""

import json

import pytest

from pytest_slmperf.baselines import builder, comparability, lookup, trend
from pytest_slmperf.baselines.stores.files import FileStore
from pytest_slmperf.frontier.regression import VOLUME
from pytest_slmperf.measuring import offline_comparison
from pytest_slmperf.model.energy import DeviceEnergy, Energy, Metered

TWO = Metered(source="nvml-counter", scope="gpu", devices={"Fake H100": 2})
THROUGHPUT = [[100.0, 101.0, 99.5]] * 6
JOULES = [[0.5], [0.501], [0.499], [0.5], [0.501], [0.499]]


def of(**changes):
    known = {"source": "nvml-counter", "scope": "gpu", "devices": {"Fake H100": 2}}
    return Metered(**known | changes)


@pytest.fixture
def result_on(make_result):
    def make(on, joules=1.0):
        rounds = [[value * joules for value in launch] for launch in JOULES]
        return make_result(
            output_throughput=THROUGHPUT, energy_per_output_token=rounds, fields={"energy": Energy(metered=on)}
        )

    return make


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (of(), None),
        (of(source="rapl", scope="package"), "another meter: nvml-counter → rapl"),
        (of(source="nvml-power"), "another meter: nvml-counter → nvml-power"),
        (of(scope="module"), "another scope: gpu → module"),
        (of(devices={"Fake H100": 1}), "other devices: 2 × Fake H100 → 1 × Fake H100"),
        (of(devices={"Fake A100": 2}), "other devices: 2 × Fake H100 → 2 × Fake A100"),
        (None, None),
    ],
)
def test_what_makes_joules_incomparable(now, why):
    told = comparability.unlike(TWO, now)
    assert (told is None) == (why is None)
    assert why is None or why in told


def test_more_gpus_that_the_engine_itself_uses_are_its_own_doing():
    assert comparability.unlike(of(own=True), of(devices={"Fake H100": 4}, own=True)) is None
    assert comparability.unlike(of(own=True), of(devices={"Fake H100": 4})) is not None
    assert comparability.unlike(of(own=True), of(devices={"Fake A100": 2}, own=True)) is not None


def test_devices_count_by_kind_and_never_by_uuid():
    cards = [DeviceEnergy(name=f"Fake H100 [{k}]", uuid=f"GPU-{k}", source="nvml-counter", scope="gpu") for k in (0, 3)]
    assert comparability.of_devices(cards, own=False) == TWO
    zones = [
        DeviceEnergy(name=f"package-{k}{part}", source="rapl", scope="package")
        for k in (0, 1)
        for part in ("", " dram")
    ]
    assert comparability.of_devices(zones, own=False).devices == {"package": 2, "package dram": 2}
    older = Energy(source="nvml-counter", scope="gpu", devices=cards, counted="2 of 4 GPUs, which the engine uses: …")
    assert comparability.metered_of(older) == of(own=True)
    assert comparability.metered_of(Energy(reason="no meter")) is None


def test_a_baseline_keeps_what_its_energy_was_counted_on(tmp_path, result_on, make_machine, make_session):
    store = FileStore(tmp_path)
    store.save("main", result_on(TWO), make_session(), make_machine())
    here = lookup.find(store, make_machine(), result_on(TWO), "main")
    assert here.baseline.newest.metered == TWO
    assert len(here.samples("energy_per_output_token")) == 6
    alone = lookup.find(store, make_machine(), result_on(of(devices={"Fake H100": 1})), "main")
    assert alone.samples("energy_per_output_token") == []
    assert len(alone.samples("output_throughput")) == 6
    assert alone.unlike("energy_per_output_token").startswith("the energy has other devices")
    assert alone.unlike("output_throughput") is None
    assert [row for row in alone.differences if row.what == "energy counted on"]


def test_an_older_baseline_stays_comparable(tmp_path, result_on, make_machine, make_session):
    store = FileStore(tmp_path)
    store.save("main", result_on(TWO), make_session(), make_machine())
    (path,) = store.paths()
    document = json.loads(path.read_text())
    for session in document["sessions"]:
        del session["metered"]
    path.write_text(json.dumps(document))
    found = lookup.find(store, make_machine(), result_on(of(source="rapl")), "main")
    assert len(found.samples("energy_per_output_token")) == 6
    assert found.unlike("energy_per_output_token") is None


def test_sessions_of_another_meter_are_left_out_beside_those_of_this_one(result_on, make_machine, make_session):
    old = builder.from_result("main", result_on(of(source="rapl")), make_session(1), make_machine(), None, None)
    new = builder.from_result("main", result_on(TWO), make_session(2), make_machine(), None, None)
    both = builder.merged(old, new, "extend", result_on(TWO))
    found = lookup.BaselineMatch(both, metered=TWO)
    assert {one.session for one in found.samples("energy_per_output_token")} == {"session-2"}
    assert {one.session for one in found.samples("output_throughput")} == {"session-1", "session-2"}
    from pytest_slmperf.measuring.sides import stored_side

    drawn = stored_side(found).metrics
    assert len(drawn["energy_per_output_token"].launches) == 6
    assert len(drawn["output_throughput"].launches) == 12


def judged(old, new, make_results):
    base, candidate = (
        offline_comparison.side_of_results(f"{n}.json", make_results(one, number=n))
        for n, one in enumerate((old, new), 1)
    )
    (compared,) = offline_comparison.compare(base, candidate, offline_comparison.Rules()).compared
    return {one.metric: one for one in compared.result.verdicts}


def test_compare_gives_no_energy_verdict_over_other_devices(result_on, make_results):
    found = judged(result_on(TWO, 3.0), result_on(of(devices={"Fake H100": 1})), make_results)
    assert found["output_throughput"].verdict == "same"
    assert found["energy_per_output_token"].verdict == "incomparable"
    assert "2 × Fake H100 → 1 × Fake H100" in found["energy_per_output_token"].reason
    assert judged(result_on(TWO, 3.0), result_on(TWO), make_results)["energy_per_output_token"].verdict == "improved"


def test_a_sweeps_frontier_is_judged_without_the_energy_of_another_meter(make_result, make_results):
    def sweep(on, joules):
        metrics = {VOLUME: [[50.0]] * 6}
        for key in (1, 2):
            metrics |= {f"output_throughput@{key}": THROUGHPUT, f"itl_mean@{key}": [[10.0 * key]] * 6}
            metrics[f"energy_per_output_token@{key}"] = [[joules]] * 6
        scenario = {"kind": "sweep", "objectives": ["output_throughput", "itl_mean"], "key": "batch"}
        points = [{"key": 1}, {"key": 2}]
        return make_result(scenario=scenario, fields={"energy": Energy(metered=on), "points": points}, **metrics)

    found = judged(sweep(TWO, 3.0), sweep(of(source="rapl"), 1.0), make_results)
    assert found[VOLUME].verdict == "same", found[VOLUME].reason
    assert found["energy_per_output_token"].verdict == "incomparable"
    assert "nvml-counter → rapl" in found["energy_per_output_token"].reason
    assert judged(sweep(TWO, 3.0), sweep(TWO, 1.0), make_results)[VOLUME].verdict == "improved"


def history_of(store, make_machine, make_session, results) -> tuple[FileStore, str, str]:
    for number, result in enumerate(results, start=1):
        store.remember(result, make_session(number), make_machine())
    (system,) = store.fingerprints()
    (test,) = store.history_tests(system)
    return store, system, test


def test_a_history_keeps_what_its_energy_was_counted_on_and_mixes_no_meters(
    tmp_path, result_on, make_machine, make_session
):
    results = [result_on(of(source="rapl", scope="package"), 9.0), result_on(TWO), result_on(of(own=False), 1.01)]
    where = history_of(FileStore(tmp_path), make_machine, make_session, results)
    assert [point.metered for point in where[0].history(*where[1:])] == [results[0].energy.metered, TWO, TWO]
    joules = trend.trend(*where, "energy_per_output_token")
    assert [point.session for point in joules.points] == ["session-2", "session-3"]
    assert (joules.otherwise_metered, joules.untold, joules.left_out) == (1, 0, 0)
    tokens = trend.trend(*where, "output_throughput")
    assert (len(tokens.points), tokens.otherwise_metered) == (3, 0)
    drawn = trend.charts(where[0], make_machine(), result_on(TWO))
    assert len(drawn["energy_per_output_token"].points) == 3
    assert len(drawn["output_throughput"].points) == 4


def test_points_from_before_a_history_told_its_meter_stay_and_are_counted(
    tmp_path, result_on, make_machine, make_session
):
    where = history_of(FileStore(tmp_path), make_machine, make_session, [result_on(TWO), result_on(TWO)])
    (path,) = tmp_path.rglob("*.jsonl")
    head, first, second = map(json.loads, path.read_text().splitlines())
    del first["metered"]
    path.write_text("".join(json.dumps(row) + "\n" for row in (head, first, second)))
    joules = trend.trend(*where, "energy_per_output_token")
    assert (len(joules.points), joules.otherwise_metered, joules.untold) == (2, 0, 1)
    assert trend.trend(*where, "output_throughput").untold == 0
