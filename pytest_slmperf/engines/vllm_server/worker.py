"""Runs a server as a child of the worker, so that server and engine start and end together. Standard library, Python 3.10.

``spec``: ``command`` (argument list, "{port}" is filled in), ``model``, ``device``, ``start_timeout_s``.  The child
writes to the engine's log, carries its marker, and when it ends unasked this process ends with it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_slmperf.engines.vllm_common import faults
    from pytest_slmperf.engines.worker import tools
else:
    import slmperf_worker_tools as tools

    faults = tools.load_own("engines/vllm_common/faults")


# Without the environment's proxy, which could not reach a port of this machine.
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Server:
    def __init__(self, spec: dict[str, Any], report: tools.Report) -> None:
        self.spec = spec
        self.report = report
        self.child: Any = None
        self.stopping = False
        # The server binds its engine's threads by itself; the front end may use every other core.
        try:
            os.sched_setaffinity(0, range(os.cpu_count() or 1))
        except OSError:
            pass

    def start(self) -> dict[str, Any]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [part.replace("{port}", str(self.port)) for part in self.spec["command"]]
        print("starting: " + " ".join(command), file=sys.stderr, flush=True)
        self.report.progress("starting the server")
        log = faults.Log()
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        until = time.monotonic() + self.spec["start_timeout_s"]
        while not self._up():
            if self.child.poll() is not None:
                raise self._ended(log)
            if time.monotonic() > until:
                raise tools.WorkerFault("error", f"the server was not up after {self.spec['start_timeout_s']:.0f} s")
            time.sleep(0.1)
        faults.check_device(log.device(), self.spec)
        self.report.progress("first request")
        self._first_request()
        served = time.monotonic()
        threading.Thread(target=self._watch, name="slmperf-server", daemon=True).start()
        return {"port": self.port, "t_first_served": served, "server_pid": self.child.pid} | self._version()

    def _ended(self, log: faults.Log) -> tools.WorkerFault:
        ended = f"the server ended with exit status {self.child.returncode} while it started"
        if (refused := log.refused()) is not None:
            mend = "Settings of this engine that are not the client's own are arguments of vLLM's server, with _ for -."
            raise tools.WorkerFault("input", f"vLLM's server refuses its arguments: {refused}", mend)
        cause = log.cause()
        return faults.explain(RuntimeError(ended), self.spec, cause) if cause else tools.WorkerFault("error", ended)

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def _up(self) -> bool:
        try:
            with LOCAL.open(self._url("/health"), timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _first_request(self) -> None:
        body = {"model": self.spec["model"], "prompt": [300, 301, 302], "max_tokens": 2, "temperature": 0.0}
        request = urllib.request.Request(
            self._url("/v1/completions"), json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with LOCAL.open(request, timeout=120) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            text = error.read(2000).decode("utf-8", "replace")
            raise tools.WorkerFault("error", f"the server refused its first request ({error.code}): {text}") from error

    def _version(self) -> dict[str, Any]:
        try:
            with LOCAL.open(self._url("/version"), timeout=5) as answer:
                return {"version": str(json.loads(answer.read())["version"])}
        except (OSError, ValueError, KeyError):
            return {"version": "unknown"}

    def _watch(self) -> None:
        code = self.child.wait()
        if not self.stopping:
            print(f"the server ended by itself with exit status {code}", file=sys.stderr, flush=True)
            os._exit(1)

    def stop(self) -> None:
        self.stopping = True
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(2)
            except subprocess.TimeoutExpired:
                pass  # killed with the group


def create(spec: dict[str, Any], report: tools.Report) -> Server:
    return Server(spec, report)
