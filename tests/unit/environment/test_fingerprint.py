from pytest_slmperf.environment import fingerprint

H100 = {"name": "NVIDIA H100 80GB HBM3", "memory_bytes": 85520809984, "uuid": "GPU-1"}


def test_cpu_engine_is_identified_by_cpu_cores_engine_device_and_weights(make_machine, make_engine):
    parts = fingerprint.identity(make_machine(), make_engine())
    assert parts == {
        "cpu": "AMD EPYC (26/2)",
        "cores": 2,
        "engine": "vllm",
        "device": "cpu",
        "weights": "dummy",
    }
    assert fingerprint.of(make_machine(), make_engine()).startswith("amd-epyc-2c-vllm-cpu-dummy-")


def test_gpu_engine_is_identified_by_its_cards_and_driver(make_machine, make_engine):
    machine = make_machine(gpus=[H100], driver="580.65.06")
    name = fingerprint.of(machine, make_engine(device="cuda:0"))
    assert name.startswith("nvidia-h100-80gb-hbm3-driver580-vllm-cuda-dummy-")
    assert "cpu" not in fingerprint.identity(machine, make_engine(device="cuda:0"))
    two = make_machine(gpus=[H100, H100], driver="580.65.06")
    assert fingerprint.of(two, make_engine(device="cuda:0")).startswith("2x-nvidia-h100")


def test_what_users_compare_is_not_in_it(make_machine, make_engine):
    old = fingerprint.of(make_machine(), make_engine())
    other_engine = make_engine(version="0.33", settings={"enforce_eager": False}, model="opt-350m", dtype="float32")
    other_machine = make_machine(os={"release": "7.0"}, python="CPython 3.14", memory_bytes=1)
    assert fingerprint.of(other_machine, other_engine) == old


def test_every_part_changes_it(make_machine, make_engine):
    machine = make_machine(gpus=[H100], driver="580.65.06")
    smaller = H100 | {"memory_bytes": 40 * 2**30}
    names = {
        fingerprint.of(machine, make_engine(device="cuda:0")),
        fingerprint.of(machine, make_engine(device="cuda:0", weights="real")),
        fingerprint.of(machine, make_engine(device="cuda:0", name="sglang")),
        fingerprint.of(make_machine(gpus=[H100], driver="580.65.07"), make_engine(device="cuda:0")),
        fingerprint.of(make_machine(gpus=[smaller], driver="580.65.06"), make_engine(device="cuda:0")),
        fingerprint.of(machine, make_engine(device="cpu")),
        fingerprint.of(make_machine(cpu={"model": "AMD EPYC", "family": "25/1", "cores": 2}), make_engine()),
        fingerprint.of(make_machine(cpu={"model": "AMD EPYC", "family": "26/2", "cores": 4}), make_engine()),
    }  # fmt: skip
    assert len(names) == 8


def test_a_driver_that_reports_some_mebibytes_less_is_no_other_card(make_machine, make_engine):
    less = H100 | {"memory_bytes": int(str(H100["memory_bytes"])) - 40 * 2**20}
    one, two = (make_machine(gpus=[card], driver="580.65.06") for card in (H100, less))
    assert fingerprint.of(one, make_engine(device="cuda")) == fingerprint.of(two, make_engine(device="cuda"))


def test_a_simulation_is_the_same_on_every_machine_and_never_a_real_engine(make_machine, make_engine):
    simulated = make_engine(name="simulated", weights="simulated")
    elsewhere = make_machine(cpu={"model": "Other", "cores": 64}, gpus=[H100], driver="580")
    assert fingerprint.of(make_machine(), simulated) == fingerprint.of(elsewhere, simulated)
    assert fingerprint.of(make_machine(), simulated).startswith("simulated-cpu-")


def test_a_stated_fingerprint_is_an_identity_of_its_own(make_machine, make_engine):
    stated = make_machine(fingerprint="imported", cpu={})
    assert fingerprint.identity(stated, make_engine())["machine"] == "imported"
    assert fingerprint.of(stated, make_engine()) != fingerprint.of(
        make_machine(fingerprint="lab-7", cpu={}), make_engine()
    )
    assert "machine" not in fingerprint.identity(make_machine(), make_engine())


def test_names_from_hardware_are_safe_folder_names(make_machine, make_engine):
    wild = make_machine(cpu={"model": "../<b>Intel(R) Xeon(R)</b> 🎉\n" + "x" * 300, "cores": 8})
    name = fingerprint.of(wild, make_engine(name="../../etc"))
    assert len(name) <= 80
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert not name.startswith(".")
    assert "/" not in name


def test_differing_names_each_part_with_both_values():
    old, new = {"driver": "550", "gpus": ["A"]}, {"driver": "580", "gpus": ["A"], "cpu": "x"}
    assert fingerprint.differing(old, new) == {"driver": ("550", "580"), "cpu": (None, "x")}
