import subprocess
import sys
from pathlib import Path

from pytest_slmperf.engines.ballast import Ballast, scattered_bytes, wanted_bytes

BUDDYINFO = """\
Node 0, zone      DMA      0      0      0      0      0      0      0      0      1      1      3
Node 0, zone   Normal    100     10      1      0      2      7      0      0      0      0   1996
"""


def test_only_small_blocks_are_scattered():
    assert scattered_bytes(BUDDYINFO) == 4096 * (100 + 20 + 4 + 32)
    assert scattered_bytes("") == 0


def test_it_never_wants_more_than_its_share_of_what_is_available():
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    assert 0 <= wanted_bytes() <= int(meminfo["MemAvailable"].split()[0]) * 1024 / 4


def test_it_holds_memory_until_it_is_released():
    ballast = Ballast(32 << 20)
    status = Path(f"/proc/{ballast._process.pid}/status").read_text()
    (resident,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    assert ballast.size == 32 << 20
    assert resident * 1024 > 32 << 20
    ballast.release()
    ballast.release()
    assert ballast._process.returncode == 0


def test_it_ends_with_a_session_that_was_killed():
    code = (
        "import os, signal; from pytest_slmperf.engines.ballast import Ballast; held = Ballast(8 << 20); "
        "print(held._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    # the pipe that run() reads is inherited by nobody; the process is gone, or about to read the end of its input
    pid = int(done.stdout)
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        subprocess.run(["sleep", "0.05"], check=True)
    raise AssertionError("the process that held memory is still there")


def test_memory_that_is_not_to_be_had_is_gone_without():
    ballast = Ballast(1 << 60)
    assert ballast.size == 0
