import pytest

from pytest_slmperf.baselines import lookup
from pytest_slmperf.baselines.stores.files import FileStore
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.verdict import Difference

H100 = {"name": "NVIDIA H100 80GB HBM3", "memory_bytes": 80 * 2**30}
A100 = {"name": "NVIDIA A100-SXM4-80GB", "memory_bytes": 80 * 2**30}
CUDA = {"device": "cuda:0"}


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path)


def test_without_a_baseline_it_is_new_and_says_how_to_make_one(store, make_machine, make_result):
    found = lookup.find(store, make_machine(), make_result(), "main")
    assert (found.verdict, found.baseline, found.samples("output_throughput")) == ("new", None, [])
    assert "--slmperf-save main" in found.reason
    assert found.label == "none"


def test_samples_of_all_sessions(store, make_machine, make_result, make_session):
    for number in (1, 2):
        result = make_result(output_throughput=[[10.0 * number, 11.0], [12.0]])
        store.save("main", result, make_session(number), make_machine())
    found = lookup.find(store, make_machine(), make_result(), "main")
    assert found.verdict is None
    assert [(one.session, tuple(one.rounds)) for one in found.samples("output_throughput")] == [
        ("session-1", (10.0, 11.0)),
        ("session-1", (12.0,)),
        ("session-2", (20.0, 11.0)),
        ("session-2", (12.0,)),
    ]
    assert found.samples("ttft_p99") == []
    assert found.label == "main @ 2222222222 of 2026-11-02 (2 sessions)"


def test_a_changed_scenario_is_incomparable_and_named(store, make_machine, make_result, make_session):
    store.save("main", make_result(), make_session(), make_machine())
    scenario = {"kind": "offline", "batch": 32, "input_len": 32, "output_len": 32, "rounds": 99}
    found = lookup.find(store, make_machine(), make_result(scenario=scenario, engine={"dtype": "float32"}), "main")
    assert found.verdict == "incomparable"
    assert found.reason == "scenario changed (batch 16 → 32, dtype bfloat16 → float32)"


def test_more_rounds_are_the_same_scenario(store, make_machine, make_result, make_session):
    store.save("main", make_result(), make_session(), make_machine())
    scenario = dict(make_result().scenario, rounds=50, launches=4, warmup=3)
    assert lookup.find(store, make_machine(), make_result(scenario=scenario), "main").verdict is None


def test_a_model_in_another_folder_is_the_same_model(store, make_machine, make_result, make_session):
    store.save("main", make_result(engine={"model": "/data/a/smollm2"}), make_session(), make_machine())
    assert lookup.find(store, make_machine(), make_result(engine={"model": "/b/smollm2/"}), "main").verdict is None
    other = lookup.find(store, make_machine(), make_result(engine={"model": "org/smollm2"}), "main")
    assert other.reason == "scenario changed (model smollm2 → org/smollm2)"


def test_another_gpu_and_driver_are_incomparable_and_named(store, make_machine, make_result, make_session):
    old = make_machine(gpus=[A100], driver="550.1")
    store.save("main", make_result(engine=CUDA), make_session(), old)
    found = lookup.find(store, make_machine(gpus=[H100], driver="580.2"), make_result(engine=CUDA), "main")
    assert found.verdict == "incomparable"
    assert "driver 550.1 → 580.2" in found.reason
    assert "NVIDIA A100-SXM4-80GB, 80 GiB → NVIDIA H100 80GB HBM3, 80 GiB" in found.reason
    named = {row.what for row in found.differences}
    assert {"driver", "gpus"} <= named


def test_an_identity_edited_by_hand_is_another_system(store, make_machine, make_result, make_session):
    store.save("main", make_result(), make_session(), make_machine())
    (path,) = store.paths()
    path.write_text(path.read_text().replace('"cpu": "AMD EPYC (26/2)"', '"cpu": "AMD Ryzen"'))
    found = lookup.find(store, make_machine(), make_result(), "main")
    assert (found.verdict, found.reason) == (
        "incomparable",
        "the baseline was taken on another system: cpu AMD Ryzen → AMD EPYC (26/2)",
    )


def test_a_driver_change_may_be_crossed_on_request(store, make_machine, make_result, make_session):
    store.save("main", make_result(engine=CUDA), make_session(), make_machine(gpus=[H100], driver="550.1"))
    new = make_machine(gpus=[H100], driver="580.2")
    refused = lookup.find(store, new, make_result(engine=CUDA), "main")
    assert refused.verdict == "incomparable"
    assert "--slmperf-across driver compares all the same" in refused.reason
    crossed = lookup.find(store, new, make_result(engine=CUDA), "main", across=["driver"])
    assert crossed.verdict is None
    assert Difference(what="driver", baseline="550.1", candidate="580.2") in crossed.differences
    assert len(crossed.samples("output_throughput")) == 2


def test_the_next_size_of_a_machine_may_be_crossed_on_request(store, make_machine, make_result, make_session):
    store.save("main", make_result(), make_session(), make_machine())
    larger = make_machine(cpu={"model": "AMD EPYC", "family": "26/2", "cores": 4})
    assert lookup.find(store, larger, make_result(), "main").verdict == "incomparable"
    crossed = lookup.find(store, larger, make_result(), "main", across=["driver,cores"])
    assert crossed.verdict is None
    assert Difference(what="cores", baseline=2, candidate=4) in crossed.differences


@pytest.mark.parametrize("part", ["weights", "engine", "device", "moon"])
def test_what_may_not_be_crossed_is_refused(store, part, make_machine, make_result):
    with pytest.raises(InvalidInput, match=f"--slmperf-across '{part}'.*driver"):
        lookup.find(store, make_machine(), make_result(), "main", across=[part])


@pytest.mark.parametrize(
    ("engine", "named"),
    [
        ({"weights": "real"}, "weights dummy → real"),
        ({"name": "simulated", "weights": "simulated"}, "weights dummy → simulated"),
    ],
)
def test_dummy_real_and_simulated_are_never_compared(store, engine, named, make_machine, make_result, make_session):
    store.save("main", make_result(), make_session(), make_machine())
    across = list(lookup.CROSSABLE)
    found = lookup.find(store, make_machine(), make_result(engine=engine), "main", across=across)
    assert found.verdict == "incomparable"
    assert named in found.reason
    assert "--slmperf-across" not in found.reason


def test_the_own_machine_goes_before_a_near_one(store, make_machine, make_result, make_session):
    here, there = make_machine(gpus=[H100], driver="580.2"), make_machine(gpus=[H100], driver="550.1")
    store.save("main", make_result(engine=CUDA), make_session(9), there)
    store.save("main", make_result(engine=CUDA), make_session(1), here)
    found = lookup.find(store, here, make_result(engine=CUDA), "main", across=["driver"])
    assert found.baseline.newest.id == "session-1"


def test_of_several_machines_the_nearest_is_named(store, make_machine, make_result, make_session):
    store.save("main", make_result(engine=CUDA), make_session(1), make_machine(gpus=[H100], driver="550.1"))
    store.save("main", make_result(engine=CUDA), make_session(2), make_machine(gpus=[A100], driver="500.1"))
    found = lookup.find(store, make_machine(gpus=[H100], driver="580.2"), make_result(engine=CUDA), "main")
    assert found.baseline.newest.id == "session-1"


def test_differences_name_what_changed(store, make_machine, make_result, make_session):
    old_engine = {"settings": {"enforce_eager": True, "api_key": "sk-1"}, "facts": {"torch": "2.12", "pid": 1}}
    store.save("main", make_result(engine=old_engine), make_session(1), make_machine())
    engine = {
        "version": "0.33.0",
        "settings": {"enforce_eager": False, "api_key": "sk-2", "block_size": 32},
        "facts": {"torch": "2.13", "pid": 2},
    }
    machine = make_machine(os={"system": "Linux", "release": "6.2"})
    found = lookup.find(store, machine, make_result(engine=engine), "main", session=make_session(2))
    assert found.verdict is None
    rows = {row.what: (row.baseline, row.candidate) for row in found.differences}
    assert rows == {
        "engine version": ("0.32.0", "0.33.0"),
        "engine setting block_size": (None, 32),
        "engine setting enforce_eager": (True, False),
        "engine torch": ("2.12", "2.13"),
        "os release": ("6.1", "6.2"),
        "commit": ("1111111111", "2222222222"),
    }


def test_nothing_changed_is_an_empty_list(store, make_machine, make_result, make_session):
    store.save("main", make_result(), make_session(), make_machine())
    found = lookup.find(store, make_machine(), make_result(), "main", session=make_session())
    assert found.differences == []
