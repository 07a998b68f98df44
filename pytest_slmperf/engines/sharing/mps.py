"""NVIDIA's Multi-Process Service (MPS) for replicas: a private daemon with its own pipe directory, one session long."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from pytest_slmperf.devices.selection import adopt, release
from pytest_slmperf.errors import EngineMissing
from pytest_slmperf.util import read_file

CONTROL = "nvidia-cuda-mps-control"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0


class MpsDaemon:
    """One MPS control daemon. ``environment`` makes a CUDA process its client; other processes are not affected.

    A context manager; ``stop`` is idempotent.  EngineMissing if the control program is absent or does not start.
    """

    def __init__(self, visible_devices: str | None = None) -> None:
        """``visible_devices``: CUDA_VISIBLE_DEVICES of the daemon, preferably a UUID; None: the devices of this process."""
        self._visible = visible_devices
        self._folder: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Variables for the daemon's clients.

        A client's indices count the devices that the daemon sees, from 0; a UUID means the same device in both.
        """
        if self._folder is None:
            raise EngineMissing("the MPS daemon is not running")
        variables = {
            "CUDA_MPS_PIPE_DIRECTORY": str(self._folder / "pipe"),
            "CUDA_MPS_LOG_DIRECTORY": str(self._folder / "log"),
        }
        if self._visible is not None:
            variables["CUDA_VISIBLE_DEVICES"] = "0" if self._visible.isdigit() else self._visible
        return variables

    def __enter__(self) -> MpsDaemon:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        program = shutil.which(CONTROL)
        if program is None:
            raise EngineMissing(
                f"sharing='mps' needs {CONTROL}, which is not on the PATH (it comes with the NVIDIA driver, in some "
                "distributions as a package of its own); use sharing='time-slice' without it"
            )
        # The path of a socket has at most 108 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="slmperf-mps-", dir=_short_folder()))
        for name in ("pipe", "log"):
            (self._folder / name).mkdir()
        try:
            done = self._daemonise(program)
            if done.returncode != 0:
                raise EngineMissing(f"{CONTROL} -d failed: {_said(done)}", self._log())
            self._await_answer()
            adopt(self._mark(), _read_pid(self._pid_file()))
        except subprocess.TimeoutExpired as error:
            self.stop()
            raise EngineMissing(f"{CONTROL} -d did not return within {START_TIMEOUT_S:g} s", self._log()) from error
        except BaseException:
            self.stop()
            raise

    def _daemonise(self, program: str) -> subprocess.CompletedProcess[str]:
        """Run ``-d`` with its output in files: the daemon would keep a pipe open, and its reader would never end."""
        assert self._folder is not None
        output = [self._folder / "log" / name for name in ("start.out", "start.err")]
        with output[0].open("wb") as out, output[1].open("wb") as err:
            done = subprocess.run(
                [program, "-d"],
                env=self._env(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=START_TIMEOUT_S,
                check=False,
            )
        texts = [path.read_text(errors="replace") for path in output]
        return subprocess.CompletedProcess(done.args, done.returncode, *texts)

    def ask(self, command: str, timeout_s: float = START_TIMEOUT_S) -> str:
        """Send one command ("get_server_list", "quit", …) to the daemon and return its answer."""
        done = subprocess.run(
            [CONTROL],
            input=command + "\n",
            env=self._env(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != 0:
            raise EngineMissing(f"{CONTROL} refused {command!r}: {_said(done)}", self._log())
        return done.stdout

    def stop(self) -> None:
        """End the daemon and remove its folder. Its clients should have ended already."""
        folder = self._folder
        if folder is None:
            return
        try:
            self.ask("quit", STOP_TIMEOUT_S)
        except (EngineMissing, OSError, subprocess.TimeoutExpired):
            _kill(self._pid_file())
        release(self._mark())
        self._folder = None
        shutil.rmtree(folder, ignore_errors=True)

    def _mark(self) -> str:
        """An environment variable that identifies the daemon, its server and its clients, by the private pipe directory."""
        return f"CUDA_MPS_PIPE_DIRECTORY={self.environment['CUDA_MPS_PIPE_DIRECTORY']}"

    def _pid_file(self) -> Path:
        """The file in the pipe directory with the process id of the control daemon."""
        return Path(self.environment["CUDA_MPS_PIPE_DIRECTORY"]) / f"{CONTROL}.pid"

    def _await_answer(self) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.ask("get_server_list", 2.0)
                return
            except (EngineMissing, subprocess.TimeoutExpired) as error:
                if time.monotonic() > end:
                    raise EngineMissing(f"the MPS daemon does not answer: {error}", self._log()) from error
                time.sleep(0.05)

    def _env(self) -> Mapping[str, str]:
        env = os.environ | self.environment
        return env if self._visible is None else env | {"CUDA_VISIBLE_DEVICES": self._visible}

    def _log(self) -> str:
        if self._folder is None:
            return ""
        return read_file.tail(self._folder / "log" / "control.log")


class MpsDaemons:
    """The daemons of a session, one per set of devices, which live as long as the session's engines."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running: dict[str | None, MpsDaemon] = {}

    def shared(self, visible_devices: str | None = None) -> MpsDaemon:
        """The daemon for these devices, started at the first call. EngineMissing if it does not start."""
        with self._guard:
            if visible_devices not in self._running:
                daemon = MpsDaemon(visible_devices)
                daemon.start()
                self._running[visible_devices] = daemon
            return self._running[visible_devices]

    def stop(self) -> None:
        """End all running daemons. Idempotent; their clients should have ended already."""
        with self._guard:
            daemons = list(self._running.values())
            self._running.clear()
        for daemon in daemons:
            daemon.stop()


def _short_folder() -> str:
    usual = tempfile.gettempdir()
    return usual if len(usual) < 40 else "/tmp"


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]


def _read_pid(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text())
    except (OSError, ValueError):
        return None


def _kill(pid_file: Path) -> None:
    import signal

    pid = _read_pid(pid_file)
    if pid is not None:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
