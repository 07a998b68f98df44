"""Reading the evidence: from a made-up /proc with known numbers, and from the real one."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from pytest_slmperf.environment.evidence import delta, process_tree, snapshot, with_devices

TICK = os.sysconf("SC_CLK_TCK")


def write_proc(root, *, busy=0.0, idle=0.0, steal=0.0, psi=0.0, tasks=None, running=2):
    """A /proc with CPU seconds since boot and, per thread, (involuntary, voluntary, cpu s, waited s)."""
    root.mkdir(exist_ok=True)
    fields = [busy, 0, 0, idle, 0, 0, 0, steal, 0, 0]
    (root / "stat").write_text("cpu  " + " ".join(str(round(v * TICK)) for v in fields) + "\ncpu0 0\n")
    (root / "pressure").mkdir(exist_ok=True)
    (root / "pressure" / "cpu").write_text(
        f"some avg10=0.00 avg60=0.00 avg300=0.00 total={round(psi * 1e6)}\nfull total=0\n"
    )
    (root / "loadavg").write_text(f"0.1 0.2 0.3 {running}/95 1234\n")
    for (pid, tid), (inv, vol, cpu, waited) in (tasks or {}).items():
        task = root / str(pid) / "task" / str(tid)
        task.mkdir(parents=True, exist_ok=True)
        (task / "children").write_text("71 " if tid == 70 else "")
        (task / "status").write_text(f"Name:\tw\nvoluntary_ctxt_switches:\t{vol}\nnonvoluntary_ctxt_switches:\t{inv}\n")
        (task / "stat").write_text(f"{tid} (a b) c)) R " + "0 " * 10 + f"{round(cpu * TICK)} 0 " + "0 " * 20)
        (task / "schedstat").write_text(f"{round(cpu * 1e9)} {round(waited * 1e9)} 9\n")
    return root


def test_differences_of_a_known_machine(tmp_path):
    proc = write_proc(tmp_path / "proc", busy=10, idle=90, tasks={(70, 70): (5, 7, 1, 0.5), (71, 71): (0, 0, 2, 0)})
    before = snapshot([70], proc)
    write_proc(
        proc,
        busy=13,
        idle=92,
        steal=1,
        psi=0.5,
        running=4,
        tasks={(70, 70): (25, 8, 2, 0.75), (71, 72): (9, 1, 0.5, 0)},
    )
    after = snapshot([70], proc)
    window = after.t - before.t
    found = delta(before, after)
    assert found["nivcsw"] == 20 + 9  # the thread that began in between counts in full
    assert found["nvcsw"] == 1 + 1
    assert found["engine_cpu_s"] == pytest.approx(1.5)
    assert found["steal_share"] == pytest.approx(1 / 6, abs=1e-4)
    assert found["cpu_wait_share"] == pytest.approx(0.25 / window, rel=1e-3)
    assert found["psi_cpu_some"] == 1.0  # half a second in a shorter window: at most all of it
    assert found["procs_running"] == 4
    assert found["others_cpus"] == pytest.approx((3 - 1.5) / window, rel=0.1)


def test_what_the_system_does_not_tell_is_absent(tmp_path):
    proc = tmp_path / "bare"
    proc.mkdir()
    found = delta(snapshot([1], proc), snapshot([1], proc))
    assert set(found) == {"window_s"}


def test_counters_that_run_backwards_tell_nothing(tmp_path):
    proc = write_proc(tmp_path / "proc", busy=10, idle=90, psi=5, tasks={(70, 70): (50, 7, 1, 0.5)})
    before = snapshot([70], proc)
    write_proc(proc, busy=1, idle=9, psi=1, tasks={(70, 70): (3, 1, 0.1, 0)})
    found = delta(before, snapshot([70], proc))
    assert "psi_cpu_some" not in found
    assert "steal_share" not in found
    assert found["nivcsw"] == 3  # the thread id went to a new thread


def test_devices_join_the_evidence():
    detail = {"throttle_ns": 5, "witness": {"joules": 1}, "sm_clock_mhz_min": 1980}
    found = with_devices({"window_s": 1.0}, [("GPU 0", detail), ("package-0", {})])
    assert found == {"window_s": 1.0, "gpus": {"GPU 0": {"throttle_ns": 5, "sm_clock_mhz_min": 1980}}}
    assert with_devices({"window_s": 1.0}, []) == {"window_s": 1.0}


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
def test_the_real_proc_shows_a_busy_child_of_a_child():
    code = (
        "import subprocess,sys;"
        "p=subprocess.Popen([sys.executable,'-c','print(1,flush=True)\\nwhile True: pass'],stdout=subprocess.PIPE);"
        "p.stdout.readline();print(p.pid,flush=True);sys.stdin.read();p.kill()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        try:
            grandchild = int(parent.stdout.readline())
            assert set(process_tree([parent.pid])) == {parent.pid, grandchild}
            before = snapshot([parent.pid])
            deadline = time.monotonic() + 20  # on a loaded machine the child may wait for its turn
            while time.monotonic() < deadline:
                time.sleep(0.2)
                found = delta(before, snapshot([parent.pid]))
                if found["engine_cpu_s"] > 0.05:
                    break
            assert found["engine_cpu_s"] > 0.05
            assert found["window_s"] > 0.1
            assert found["nivcsw"] >= 0
        finally:
            parent.stdin.close()
            parent.wait()
