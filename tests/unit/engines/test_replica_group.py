"""Cores, specifications and the merged reading of replicas; the MPS daemon against a stand-in control program."""

from __future__ import annotations

import os
import re
import stat
import time
from pathlib import Path
from typing import ClassVar

import pytest
from support.fake_nvml import FakeGpu
from support.processes import running, wait_gone

from pytest_slmperf.devices import selection
from pytest_slmperf.devices.selection import is_own, mig_slices
from pytest_slmperf.engines.base import Batch, EngineFacts, RoundReading
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.engines.sharing import mps
from pytest_slmperf.engines.sharing.mps import MpsDaemons
from pytest_slmperf.engines.sharing.replicas import ReplicaGroup, open_replicas, replica_specs, share_cores
from pytest_slmperf.engines.simulated.adapter import SimulatedAdapter
from pytest_slmperf.engines.vllm.adapter import VllmAdapter
from pytest_slmperf.errors import EngineError, EngineMissing, InvalidInput, OutOfMemory
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.replication import Replication, merge

GPU = EngineSpec("vllm", "opt-125m", device="cuda:0", kv_cache_tokens=1000)


@pytest.mark.parametrize(
    ("cores", "replicas", "each"),
    [
        ([0, 1, 2, 3, 4], 2, ((1, 2), (3, 4))),
        ([0, 1, 2, 3], 3, ((1,), (2,), (3,))),
        ([0, 1, 2, 3], 2, ((1,), (2,))),
    ],
)
def test_disjoint_cores_leave_the_first_to_the_test(cores, replicas, each):
    found = share_cores(cores, replicas)
    assert found.each == each
    assert found.contention is None


def test_too_few_cores_are_said_out_loud():
    two = share_cores([0, 1], 2)
    assert two.each == ((1,), (0,))
    assert "shares core 0 with the test process" in two.contention
    four = share_cores([0, 1], 4)
    assert len(four.each) == 4
    assert "this measures contention" in four.contention
    with pytest.raises(InvalidInput, match="no core"):
        share_cores([], 1)


def test_specs_pin_cores_and_budget():
    specs = replica_specs(GPU, 2, "time-slice", cores=share_cores([0, 1, 2], 2), mps=MpsDaemons())
    assert [one.cpus for one in specs] == [(1,), (2,)]
    assert {one.kv_cache_tokens for one in specs} == {1000}
    assert all(not one.env for one in specs)


def test_mig_without_slices_is_refused():
    with pytest.raises(InvalidInput, match="as many MIG slices, and cuda:0 has 0"):
        replica_specs(GPU, 2, "mig", cores=None, mps=MpsDaemons())
    with pytest.raises(InvalidInput, match="not by 'mig'"):
        SimulatedAdapter().replica_specs(EngineSpec("simulated", "opt-125m"), 2, "mig")


CONTROL = """#!/bin/sh
# Stands in for NVIDIA's control program: -d leaves a "daemon", the commands come on standard input.
pid="$CUDA_MPS_PIPE_DIRECTORY/nvidia-cuda-mps-control.pid"
echo "$* visible=$CUDA_VISIBLE_DEVICES pipe=$CUDA_MPS_PIPE_DIRECTORY" >> "$SLMPERF_TEST_LOG"
if [ "$1" = "-d" ]; then
  [ -n "$SLMPERF_TEST_FAIL" ] && { echo "no CUDA device" >&2; exit 1; }
  if [ -n "$SLMPERF_TEST_SERVER" ]; then  # a daemon with a server, out of the caller's tree
    setsid sh -c 'sleep 60 & echo $! > "$CUDA_MPS_PIPE_DIRECTORY/server"; wait' > /dev/null 2>&1 &
    while [ ! -s "$CUDA_MPS_PIPE_DIRECTORY/server" ]; do sleep 0.01; done
  elif [ -n "$SLMPERF_TEST_KEEPS_PIPES" ]; then
    sleep 60 &
  else
    sleep 60 > /dev/null 2>&1 &
  fi
  echo $! > "$pid"
  exit 0
fi
[ -f "$pid" ] || { echo "Cannot find MPS control daemon process" >&2; exit 1; }
read -r command
echo "$command" >> "$SLMPERF_TEST_LOG"
[ "$command" = quit ] && [ -n "$SLMPERF_TEST_SERVER" ] && kill "$(cat "$CUDA_MPS_PIPE_DIRECTORY/server")"
[ "$command" = quit ] && [ -z "$SLMPERF_TEST_STUBBORN" ] && kill "$(cat "$pid")" && rm "$pid"
exit 0
"""


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a stand-in control program on the PATH; returns the log of its calls."""
    program = tmp_path / mps.CONTROL
    program.write_text(CONTROL)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLMPERF_TEST_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def test_daemon_lives_in_a_private_folder_and_leaves_nothing(control):
    with mps.MpsDaemon() as daemon:
        pipe = Path(daemon.environment["CUDA_MPS_PIPE_DIRECTORY"])
        pid = int((pipe / f"{mps.CONTROL}.pid").read_text())
        assert Path(f"/proc/{pid}").exists()
    assert not pipe.parent.exists()
    log = control.read_text()
    assert re.search(rf"-d visible=\S* pipe={pipe}\n", log)
    assert log.endswith("quit\n")
    assert not running(pid)
    daemon.stop()  # idempotent
    with pytest.raises(EngineMissing, match="not running"):
        assert daemon.environment


def test_server_of_the_own_daemon_is_no_stranger_on_the_gpu(control, monkeypatch):
    """Both have left this process's tree, and every client's kernels run in the server."""
    monkeypatch.setenv("SLMPERF_TEST_SERVER", "1")
    with mps.MpsDaemon() as daemon:
        pipe = Path(daemon.environment["CUDA_MPS_PIPE_DIRECTORY"])
        server = int((pipe / "server").read_text())
        assert is_own(server)
        assert is_own(int((pipe / f"{mps.CONTROL}.pid").read_text()))
        assert not is_own(1)
    assert not is_own(server)


def test_server_is_known_by_its_daemon_where_its_environment_may_not_be_read(control, monkeypatch):
    monkeypatch.setenv("SLMPERF_TEST_SERVER", "1")
    monkeypatch.setattr(selection, "_has_variable", lambda pid: False)
    with mps.MpsDaemon() as daemon:
        assert is_own(int((Path(daemon.environment["CUDA_MPS_PIPE_DIRECTORY"]) / "server").read_text()))


def test_daemon_that_keeps_its_pipes_open_starts_all_the_same(control, monkeypatch):
    monkeypatch.setenv("SLMPERF_TEST_KEEPS_PIPES", "1")
    monkeypatch.setattr(mps, "START_TIMEOUT_S", 5.0)
    with mps.MpsDaemon() as daemon:
        assert Path(daemon.environment["CUDA_MPS_PIPE_DIRECTORY"]).exists()


def test_daemon_that_does_not_quit_is_killed(control, monkeypatch):
    monkeypatch.setenv("SLMPERF_TEST_STUBBORN", "1")
    monkeypatch.setattr(mps, "STOP_TIMEOUT_S", 1.0)
    monkeypatch.setattr(mps.MpsDaemon, "ask", _refuse_quit(mps.MpsDaemon.ask))
    with mps.MpsDaemon() as daemon:
        pid = int((Path(daemon.environment["CUDA_MPS_PIPE_DIRECTORY"]) / f"{mps.CONTROL}.pid").read_text())
    assert wait_gone(pid, 20)  # a busy machine takes its time to bury it
    assert not running(pid)


def _refuse_quit(ask):
    def asked(self, command, timeout_s=mps.START_TIMEOUT_S):
        answer = ask(self, command, timeout_s)
        if command == "quit":
            raise EngineMissing("still has clients")
        return answer

    return asked


def test_failures_name_the_mend(control, monkeypatch):
    monkeypatch.setenv("SLMPERF_TEST_FAIL", "1")
    with pytest.raises(EngineMissing, match="no CUDA device"):
        mps.MpsDaemon().start()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineMissing, match="use sharing='time-slice'"):
        mps.MpsDaemon().start()


def test_shared_daemon_is_one_and_its_variables_reach_the_replicas(control):
    daemons = MpsDaemons()
    try:
        specs = replica_specs(GPU, 2, "mps", cores=None, mps=daemons)
        assert specs == replica_specs(GPU, 2, "mps", cores=None, mps=daemons)
        assert dict(specs[0].env) == daemons.shared("0").environment
        assert control.read_text().count("-d ") == 1
        assert replica_specs(GPU, 1, "mps", cores=None, mps=daemons) == [GPU]
    finally:
        daemons.stop()
    daemons.stop()


def test_daemon_and_clients_name_the_gpu_by_its_uuid(control, gpus, monkeypatch):
    """Indices do not mean the same to both: a client's begin at 0 among the devices that the daemon sees."""
    uuids = [f"GPU-{letter * 8}-0000-0000-0000-000000000000" for letter in "ab"]
    gpus(*(FakeGpu(uuid=uuid) for uuid in uuids))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    daemons = MpsDaemons()
    try:
        one, _ = replica_specs(GPU, 2, "mps", cores=None, mps=daemons)
        assert dict(one.env)["CUDA_VISIBLE_DEVICES"] == uuids[1]
        assert f"visible={uuids[1]} " in control.read_text()
    finally:
        daemons.stop()


def test_without_nvml_a_client_counts_from_0_among_the_one_that_its_daemon_sees(control, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    daemons = MpsDaemons()
    try:
        one, _ = replica_specs(GPU, 2, "mps", cores=None, mps=daemons)
        assert dict(one.env)["CUDA_VISIBLE_DEVICES"] == "0"
        assert "visible=1 " in control.read_text()
    finally:
        daemons.stop()


SLICES = [f"MIG-{number}1111111-0000-0000-0000-000000000000" for number in range(3)]


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        ("1", SLICES[:3]),
        ("GPU-bbbb", SLICES[:3]),
        (f"{SLICES[1]},{SLICES[2]}", SLICES[1:]),
        ("1,0", SLICES[:3]),
        ("0", []),
    ],
)
def test_slices_are_those_of_the_gpu_that_this_process_sees(gpus, monkeypatch, visible, found):
    uuids = [f"GPU-{letter * 8}-0000-0000-0000-000000000000" for letter in "ab"]
    gpus(FakeGpu(uuid=uuids[0]), FakeGpu(uuid=uuids[1], lines=[f"slice {one}" for one in SLICES]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [one.uuid for one in mig_slices("cuda:0")] == found


def test_a_replica_in_a_slice_has_the_memory_of_its_slice(gpus, monkeypatch):
    """The GPU has 80 GiB and each of its slices 20; 12 tokens of OPT-125M take 432 KiB of KV cache."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpus(FakeGpu(lines=[f"slice {one}" for one in SLICES], words={"slice_gib": 20}))
    whole = EngineSpec("vllm", "opt-125m", device="cuda:0", dtype="float16", kv_cache_tokens=60 * 2**30 // 36864)
    room = {}
    lengths = {"batch": 8, "input_len": 8, "output_len": 8}
    for replicas in (1, 2, 3):
        room[replicas] = Replication.of(replicas, lengths | {"sharing": "mig"}).kv_each(whole, VllmAdapter())
        assert 13 < room[replicas] * 36864 / 2**30 < 0.85 * 20 - 3  # less the weights and what a running engine takes
    assert len(set(room.values())) == 1
    assert Replication.of(2, lengths | {"sharing": "mps"}).kv_each(whole, VllmAdapter()) > 1.8 * room[2]


def test_a_small_budget_is_shared_out_over_slices_without_paying_for_copies(gpus, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpus(FakeGpu(lines=[f"slice {one}" for one in SLICES], words={"slice_gib": 20}))
    two = Replication.of(2, {"batch": 8, "input_len": 8, "output_len": 8, "sharing": "mig"})
    assert two.kv_each(EngineSpec("vllm", "opt-125m", device="cuda:0", kv_cache_tokens=4096), VllmAdapter()) == 2048
    with pytest.raises(OutOfMemory, match=r"10 tokens of KV cache on its MIG slice .* 20\.0 GiB"):
        two.kv_each(EngineSpec("vllm", "opt-125m", device="cuda:0", kv_cache_tokens=20), VllmAdapter())


def reading(start, end, n_out, **more):
    return RoundReading(start, end, 8, n_out, 1, **more)


def test_merged_window_spans_all_and_what_one_does_not_tell_is_not_told():
    one = reading(
        1.0, 3.0, 10, preemptions=1, kv_cache_peak=20.0, mean_running=2.0, evidence={"nivcsw": 3, "core": "a"}
    )
    two = reading(1.5, 5.0, 30, preemptions=2, kv_cache_peak=50.0, mean_running=4.0, evidence={"nivcsw": 4})
    found = merge([one, two])
    assert (found.t_start, found.t_end, found.n_out, found.completed) == (1.0, 5.0, 40, 2)
    assert (found.preemptions, found.kv_cache_peak) == (3, 50.0)
    assert found.mean_running == pytest.approx((2 * 2.0 + 4 * 3.5) / 4)
    assert found.evidence == {"nivcsw": 7, "core": "a"}
    silent = merge([one, reading(1.0, 2.0, 5)])
    assert (silent.preemptions, silent.kv_cache_peak, silent.mean_running) == (None, None, None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch": 0, "input_len": 1, "output_len": 1}, "batch must be a whole number"),
        ({"batch": 1, "input_len": 1}, "give output_len"),
        ({"batch": 1, "input_len": 1, "output_len": 1, "sharing": "magic"}, "sharing must be one of"),
        ({"batch": 1, "input_len": 1, "output_len": 1, "split": "fair"}, "split must be"),
        ({"batch": 1, "input_len": 1, "output_len": 1, "requests": 0}, "requests must be"),
        ({"batch": 1, "input_len": 1, "output_len": 1, "max_num_seqs": 4}, "max_num_seqs of a replica is its batch"),
        ({"batch": 1, "input_len": 1, "output_len": 1, "kv_cache_tokens": 64}, "give that"),
        ({"batch": 1, "input_len": 1, "output_len": 1, "max_model_len": 64}, "follows from input_len"),
    ],
)
def test_wrong_replication(settings, words):
    with pytest.raises(InvalidInput, match=words):
        Replication.of(2, settings)


def test_several_numbers_of_replicas_are_another_call():
    with pytest.raises(InvalidInput, match=r"slmperf\.replication\(\[1, 2\], …\) measures several"):
        Replication.of([1, 2], {"batch": 1, "input_len": 1, "output_len": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("engine", "entry", "said"),
    [("vllm", SLICES[1], True), ("vllm-async", SLICES[1], True), ("vllm", "GPU-aaaa", False)],
)
def test_an_engine_that_does_not_start_on_its_slice_says_so(engine, entry, said):
    """vLLM 0.26 asks NVML for the GPU whose index is that of the slice, in every process of its own too."""

    def failing(spec, launch):
        raise EngineError("vLLM did not start (NVMLError_InvalidArgument: Invalid Argument)", "tail")

    spec = EngineSpec(engine, "opt-125m", env=(("CUDA_VISIBLE_DEVICES", entry),))
    hint = Registry(builtin_adapters()).get(engine).traits.mig_hint
    with (
        pytest.raises(EngineError, match=r"^replica 0 \(of 2, from 0\): vLLM did not start") as caught,
        open_replicas([spec] * 2, spec, 0, failing, {}, mig_hint=hint),
    ):
        pass
    assert (f"on the MIG slice {SLICES[1]}" in str(caught.value)) is said
    assert ("engine 'vllm' does" in str(caught.value)) is (engine != "vllm")
    assert caught.value.log_tail == "tail"


def group_of(*engines):
    return ReplicaGroup(engines, engines[0].spec, {})


@pytest.mark.parametrize("split", ["generate_all", "generate_queue"])
def test_every_round_of_a_virtual_clock_starts_at_one_time(launch, split):
    """Also where a replica has worked alone before (out of the pool), and where one has less to do in every round."""
    one, two = launch(), launch()
    alone = one.generate(Batch(64, 512, 512))
    group = group_of(one, two)
    before = alone.t_end
    for _ in range(3):
        done = getattr(group, split)([Batch(8, 16, 64), Batch(2, 16, 8)])
        first, second = done if split == "generate_all" else [found[0] for found in done]
        assert first.t_start == second.t_start >= before
        assert first.t_end > second.t_end
        before = first.t_end


def test_a_real_clock_has_one_start_and_is_not_asked():
    """The moment lies ahead, and each worker waits for it."""

    class Real:
        facts, spec, log_path, host = EngineFacts(clock="real"), None, None, None

        def generate(self, work, timeout_s, start_at):
            self.start_at = start_at
            while time.monotonic() <= start_at:
                time.sleep(0.001)
            return RoundReading(start_at, time.monotonic(), 1, 1, 1)

    one, two = Real(), Real()
    group_of(one, two).generate_all([Batch(1, 1, 1)] * 2)
    assert one.start_at == two.start_at
    before = time.monotonic()
    group_of(one).generate_all([Batch(1, 1, 1)])
    assert before <= one.start_at <= time.monotonic()  # nobody to wait for


def test_replica_that_dies_in_a_round_is_named(launch):
    group = group_of(launch(), launch(fail="round-exit", fail_round=2))
    works = [Batch(1, 8, 8)] * 2
    group.generate_all(works)
    with pytest.raises(EngineError, match=r"^replica 1 \(of 2, from 0\): engine simulated .*exit status 3") as caught:
        group.generate_all(works)
    assert "simulated failure" in caught.value.log_tail
    with pytest.raises(EngineError, match=r"^replica 1 \(of 2, from 0\): .* is failed"):
        group.generate_all(works)


def test_one_replica_alone_needs_no_number(launch):
    with pytest.raises(EngineError, match=r"^engine simulated"):
        group_of(launch(fail="round-exit")).generate_all([Batch(1, 8, 8)])


def test_a_replica_that_got_no_request_does_not_lend_its_number_to_the_next():
    class Queued:
        facts: ClassVar = {}

        def generate_queue(self, works, timeout_s):
            return [[], [RoundReading(0.0, 1.0, 8, 8, 1)]]

    scenario = Replication.of(2, {"batch": 1, "requests": 1, "input_len": 8, "output_len": 8, "split": "least-load"})
    values = scenario.round(Queued(), None).values  # type: ignore[arg-type]
    assert "output_throughput@replica 0" not in values
    assert values["output_throughput@replica 1"] == 8.0
    assert values["fairness"] == 0.5
