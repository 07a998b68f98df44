"""The program that runs in an engine's own process: ``PYTHON main.py WORKER_FILE COMMAND_FD EVENT_FD``.

Standard library only and Python 3.10, because any interpreter may run it: it is started by file path and imports
nothing of the package it lies in.  ``WORKER_FILE`` is imported by path too and defines

    ``create(spec: dict, report: Report) -> object``

whose result has ``start() -> dict`` (facts; serves one request), ``generate(**params) -> dict``, ``reset_caches() -> dict``
and, if the engine has them, ``play(plan) -> dict``, ``counters() -> dict`` and ``stop()``.  The parent may call every public
method by name, so that a new kind of scenario adds a method to its worker and changes nothing here.

Commands and answers are frames (``util/framing.py``) on two descriptors of their own; standard output and error go to the
engine's log.  The process ends with its parent: a thread watches the command pipe for its end, and the kernel sends a
signal when the parent dies.  A guardian, the parent of this process, then kills all that this process had started.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LOOK_S = 0.5  # between two looks of a guardian, or of a launch host, at the size of the log


def _load_tools() -> None:
    """Make ``slmperf_worker_tools`` and ``slmperf_framing`` importable, without this folder on ``sys.path``.

    A module here must not shadow an engine's module of the same name.
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
    """Ask the kernel (Linux) for SIGKILL, or signal ``number``, at the death of the thread that started this process."""
    if _prctl(PR_SET_PDEATHSIG, number) and os.getppid() != parent:  # not Linux: the watched pipe remains
        os._exit(1)


def _prctl(option: int, value: int) -> bool:
    """Set an attribute of this process (Linux); False on other systems."""
    import ctypes

    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def _leave_guardian() -> None:
    """Fork a guardian, which sleeps until this process is dead and then kills all that this process had started.

    For a process that a launch host has forked and that must keep its process id: the host adopts the processes that this
    process leaves behind, and this guardian ends them if the host has died too.  The guardian has a session of its own, so
    that signals to the engine's group do not reach it.
    """
    import signal

    tools = sys.modules["slmperf_worker_tools"]
    marker = os.environ.get(tools.MARKER)
    if not marker or sys.platform != "linux" or os.getpgrp() != os.getpid():
        return
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # its descendants stay below it while it lives
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


def _stay_as_guardian() -> None:
    """Fork: the child returns and becomes the engine; this process stays as its guardian and never returns.

    The guardian adopts every descendant of the engine (a "subreaper", Linux), including processes that left its group, its
    session and its environment. When the engine ends, or on SIGTERM, or when its own parent has ended, it kills all of them
    and exits with the engine's status.  Meanwhile it keeps the log, its standard output, short.
    """
    import signal

    if sys.platform != "linux" or not _prctl(PR_SET_CHILD_SUBREAPER, 1):
        return
    parent, guardian = os.getppid(), os.getpid()
    awaited = {signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    worker = os.fork()
    if worker == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.setsid()  # signals to the engine's group must not reach the guardian
        _die_with_parent(guardian)
        return
    status = 0
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.closerange(3, 4096)  # an open end of the worker's pipes would hide its death
        log = sys.modules["slmperf_worker_tools"].LogBound(1)
        status = _until_ended(worker, parent, awaited, log.keep)
        _end_children()
        log.keep()
    finally:
        _exit_as(status)


def _until_ended(worker: int, parent: int, awaited: set[signal.Signals], look: Callable[[], None]) -> int:
    """Wait for the end of the engine and return its status; 0 if SIGTERM, or the end of the parent, comes first.

    ``look`` is called every ``LOOK_S`` seconds.
    """
    import signal

    while True:
        arrived = signal.sigtimedwait(awaited, LOOK_S)
        number = None if arrived is None else arrived.si_signo
        look()
        if number == signal.SIGTERM or os.getppid() != parent:
            return 0
        if number == signal.SIGUSR1:  # passed on: the engine writes its stacks to the log
            os.kill(worker, signal.SIGUSR1)
        if worker in (ended := _reaped()):
            return ended[worker]


def _reaped() -> dict[int, int]:
    """Status of each child that has ended since the last call."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def _end_children() -> None:
    """SIGKILL to all descendants until none is left. This process adopts the children of a killed process."""
    import signal
    import time

    tools = sys.modules["slmperf_worker_tools"]
    for _ in range(500):  # at most 5 s: a process may be stuck in the kernel
        for pid in tools.descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        _reaped()
        if not tools.descendants(os.getpid()):
            return
        time.sleep(0.01)


def _exit_as(status: int) -> None:
    """End this process with ``status``, a wait status of another process."""
    import resource
    import signal

    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)


def _end_everything() -> None:
    """End this process and all that it started, immediately."""
    import signal

    tools = sys.modules["slmperf_worker_tools"]
    marker = os.environ.get(tools.MARKER)
    if marker:
        tools.kill_marked(marker, spare=(os.getpid(), os.getppid()))  # the guardian ends processes that lost the marker
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _describe(error: BaseException) -> dict[str, str]:
    import traceback

    text = str(error).strip() or type(error).__name__
    kind, mend = getattr(error, "kind", None), getattr(error, "mend", "")
    if kind is None:
        # torch's error for a full GPU is not a MemoryError.
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

    # If children of the engine held these pipes, the parent would not notice the end of this process.
    os.set_inheritable(command_fd, False)
    os.set_inheritable(event_fd, False)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # shows in the log where a hung engine hangs
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
                result: Any = {"pid": os.getpid()}
            elif name == "stop":
                if worker is not None and hasattr(worker, "stop"):
                    worker.stop()
                send({"id": running, "ok": True, "result": {}})
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)  # without the engine's exit handlers, which can hang; the parent then kills the group
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
        _die_with_parent(int(sys.argv[sys.argv.index("--with-parent") + 1]), 15)
    _load_tools()
    _stay_as_guardian()
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
