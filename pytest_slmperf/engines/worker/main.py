"""The program that runs in an engine's own process: ``PYTHON main.py WORKER_FILE COMMAND_FD EVENT_FD``.

Standard library only and Python 3.10, because any interpreter may run it: it is started by file path and imports
nothing of the package it lies in.  ``WORKER_FILE`` is imported by path too and defines

    ``create(spec: dict, report: Report) -> object``

whose object has ``start() -> dict`` (facts; serves one request), ``generate(**params) -> dict``, ``reset_caches() -> dict``
and, if the engine has them, ``play(plan) -> dict``, ``counters() -> dict`` and ``stop()``.  Every public method of it may
be called by name, so that a new kind of scenario adds a method to its worker and edits nothing here.

Commands and answers are frames (``util/framing.py``) on two descriptors of their own; standard output and error belong to
the engine's log.  The process ends with its parent: the command pipe's end is watched by a thread, and the kernel is
asked for a SIGKILL when the parent dies.  A guardian, forked at the start, then ends what this process had started.
"""

from __future__ import annotations

import importlib.util
import os
import sys


def _load_tools() -> None:
    """Make ``slmperf_worker_tools`` and ``slmperf_framing`` importable, without this folder on ``sys.path``.

    This folder holds modules named after engines (``vllm.py``), which must not shadow the engines themselves.
    """
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    package = os.path.dirname(os.path.dirname(here))
    for name, path in (
        ("slmperf_worker_tools", os.path.join(here, "tools.py")),
        ("slmperf_framing", os.path.join(package, "util", "framing.py")),
    ):
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(name)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


def _die_with_parent(parent: int, number: int = 9) -> None:
    """Ask the kernel for SIGKILL (or another signal) at the death of the thread that started this process (Linux)."""
    import ctypes

    pr_set_pdeathsig = 1
    try:
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, number, 0, 0, 0)
    except (OSError, AttributeError):
        return  # not Linux: the watched pipe remains
    if os.getppid() != parent:
        os._exit(1)


def _leave_guardian() -> None:
    """Fork a process that sleeps until this one is dead, however it died, and then kills what this one had started.

    Killed with its parent, this process has no time left to do so itself, and a server or an engine core of its own kept
    the device. In a session of its own: what pauses or ends the engine's group leaves it alone.
    """
    import signal

    tools = sys.modules["slmperf_worker_tools"]
    marker = os.environ.get(tools.MARKER)
    if not marker or sys.platform != "linux" or os.getpgrp() != os.getpid():
        return
    worker = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if os.fork():
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    try:
        os.setsid()
        os.closerange(3, 4096)  # an open end of the worker's pipes would hide its death
        if os.getppid() == worker:
            _die_with_parent(worker, signal.SIGTERM)
            signal.sigwait({signal.SIGTERM})
        # The group as well: processes that rename themselves, as vLLM's do, have lost the marker.
        tools.kill_marked(marker, spare=(os.getpid(),))
        os.killpg(worker, signal.SIGKILL)
    finally:
        os._exit(0)


def _end_everything() -> None:
    """End this process and all that it started, at once."""
    import signal

    tools = sys.modules["slmperf_worker_tools"]
    marker = os.environ.get(tools.MARKER)
    if marker:
        tools.kill_marked(marker, spare=(os.getpid(),))
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _describe(error: BaseException) -> dict[str, str]:
    import traceback

    text = str(error).strip() or type(error).__name__
    kind, mend = getattr(error, "kind", None), getattr(error, "mend", "")
    if kind is None:
        # torch has an error of its own for a GPU's memory, which is no MemoryError
        out = isinstance(error, MemoryError) or "out of memory" in text.lower()
        kind = "memory" if out else "error"
        text = f"{type(error).__name__}: {text}"
    return {"kind": kind, "message": text, "mend": mend, "traceback": "".join(traceback.format_exception(error))}


def main(worker_file: str, command_fd: int, event_fd: int) -> int:
    import faulthandler
    import queue
    import signal
    import threading
    from typing import TYPE_CHECKING, Any

    if TYPE_CHECKING:
        from pytest_slmperf.engines.worker import tools
        from pytest_slmperf.util import framing
    else:
        import slmperf_framing as framing
        import slmperf_worker_tools as tools

    # Children of the engine must hold neither end, or the parent would not see this process end.
    os.set_inheritable(command_fd, False)
    os.set_inheritable(event_fd, False)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # the parent asks a hung engine where it hangs
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    commands: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def watch() -> None:
        decoder = framing.Decoder()
        try:
            while (message := framing.read_message(command_fd, decoder)) is not None:
                commands.put(message)
        finally:
            _end_everything()

    threading.Thread(target=watch, name="slmperf-commands", daemon=True).start()
    sending = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        data = framing.pack(message)
        with sending:
            framing.write_all(event_fd, data)

    running = 0
    report = tools.Report(lambda event: send({"id": running, "event": event}))
    worker: Any = None
    while True:
        command = commands.get()
        running, name, params = command["id"], command["call"], command.get("params", {})
        try:
            if name == "create":
                if params.get("cpus"):
                    os.sched_setaffinity(0, params["cpus"])
                worker = tools.load_file("slmperf_adapter", worker_file).create(params["spec"], report)
                result: Any = {}
            elif name == "stop":
                if worker is not None and hasattr(worker, "stop"):
                    worker.stop()
                send({"id": running, "ok": True, "result": {}})
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)  # skips the engine's own exit handlers, which hang in the field; the group is killed after
            else:
                method = None if name.startswith("_") else getattr(worker, name, None)
                if not callable(method):
                    raise tools.WorkerFault("input", f"this engine has no operation {name!r}")
                result = method(**params)
            answer = {"id": running, "ok": True, "result": result}
            data = framing.pack(answer)
        except BaseException as error:
            description = _describe(error)
            print(description["traceback"], file=sys.stderr, flush=True)
            data = framing.pack({"id": running, "ok": False, "error": description})
        with sending:
            framing.write_all(event_fd, data)


if __name__ == "__main__":
    if "--with-parent" in sys.argv:
        _die_with_parent(int(sys.argv[sys.argv.index("--with-parent") + 1]))
    _load_tools()
    _leave_guardian()
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
