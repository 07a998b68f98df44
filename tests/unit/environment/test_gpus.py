"""The machine's GPUs through the real nvidia-ml-py, over a library of fake ones."""

import msgspec
import pytest
from support import fake_nvml
from support.fake_nvml import FakeGpu

from pytest_slmperf.environment import fingerprint
from pytest_slmperf.model.result import Engine

UUIDS = [f"GPU-{letter * 8}-0000-0000-0000-000000000000" for letter in "abc"]
ENGINE = Engine(name="vllm", version="0.32.0", model="opt-125m", weights="dummy", device="cuda:0")


@pytest.fixture
def cards(tmp_path, monkeypatch):
    """Three GPUs, the first of them cut into a MIG slice."""
    three = [FakeGpu(uuid=UUIDS[0], lines=["slice MIG-dddd"]), FakeGpu(uuid=UUIDS[1]), FakeGpu(uuid=UUIDS[2])]
    fake = fake_nvml.FakeNvml(tmp_path, three, virtual=True, lines=("driver 580.65.06",))
    fake_nvml.lend(monkeypatch, fake)
    yield fake
    fake.close()


@pytest.mark.parametrize(
    ("wish", "seen"),
    [
        (None, UUIDS),
        ("2,1", [UUIDS[2], UUIDS[1]]),
        (UUIDS[1], [UUIDS[1]]),
        ("GPU-c", [UUIDS[2]]),  # a unique beginning
        ("1,-1,2", [UUIDS[1]]),  # CUDA stops at the first entry that names no device
        ("MIG-dddd", ["MIG-dddd"]),
        ("", []),
        ("7", []),
    ],
)
@pytest.mark.usefixtures("cards")
def test_only_visible_cards_count(wish, seen):
    found, driver = fingerprint.describe_gpus({} if wish is None else {"CUDA_VISIBLE_DEVICES": wish})
    assert [gpu["uuid"] for gpu in found] == seen
    assert driver == "580.65.06"


@pytest.mark.usefixtures("cards")
def test_facts_of_a_card():
    gpu = fingerprint.describe_gpus({"CUDA_VISIBLE_DEVICES": "1"})[0][0]
    assert gpu["name"] == "Fake H100 80GB HBM3"
    assert gpu["index"] == 1
    assert gpu["memory_bytes"] > 2**30
    assert gpu["power_limit_w"] > 0
    assert not gpu["mig"]


def test_the_whole_machine_and_its_fingerprint(cards, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    found = fingerprint.describe_machine()
    assert found.driver == "580.65.06"
    assert found.fingerprint.startswith("fake-h100-80gb-hbm3-driver580-")
    assert fingerprint.of(found, ENGINE).startswith("fake-h100-80gb-hbm3-driver580-vllm-cuda-dummy-")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    assert fingerprint.of(fingerprint.describe_machine(), ENGINE).startswith("2x-fake-h100")


def test_a_slice_is_another_machine_than_the_whole_card(cards, monkeypatch):
    names = set()
    for wish in ("0", "1", "2", "MIG-dddd"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wish)
        names.add(fingerprint.of(fingerprint.describe_machine(), ENGINE))
    assert len(names) == 2  # the three cards are of one kind


def test_without_the_library_there_is_no_gpu(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert fingerprint.describe_gpus({}) == ([], None)


@pytest.mark.parametrize(("code", "told"), [(15, "lost"), (4, "no permission")])
def test_a_card_that_cannot_be_opened_is_listed_with_why_and_is_no_part_of_the_fingerprint(
    cards, monkeypatch, code, told
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    alone = fingerprint.of(fingerprint.describe_machine(), ENGINE)
    cards.gpus[2].lines = [f"fail nvmlDeviceGetHandleByIndex_v2 {code} after 0"]
    cards.write()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    found = fingerprint.describe_machine()
    assert [gpu["name"] for gpu in found.gpus] == ["Fake H100 80GB HBM3", "GPU 2"]
    assert told in found.gpus[1]["closed"]
    assert found.cards[1] == f"GPU 2 (cannot be opened: {found.gpus[1]['closed']})"
    assert fingerprint.of(found, ENGINE) == alone
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    shut = fingerprint.describe_machine()
    assert fingerprint.of_machine(shut) == fingerprint.of_machine(msgspec.structs.replace(shut, gpus=[]))
