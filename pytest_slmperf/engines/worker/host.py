"""The launch host: imports an engine once and forks a process for each launch.

``PYTHON host.py WORKER_FILE CHANNEL_FD``.  Standard library only and Python 3.10, like ``main.py`` in this folder, with
which each forked process continues.  The worker file's ``prepare()`` imports the engine.  It must not start threads or
initialise devices, which do not survive a fork; this is checked before the first fork.

The channel is a socket of packets, one JSON object each:

    from the host:  {"ready": figures} or {"unfit": reason}, once; {"forked": pid} or {"failed": reason}, after an order;
                    {"ended": [pid, code]}, when a child ends
    to the host:    {"fork": {"env": variables, "cwd": folder}} with three descriptors (commands, events, log); {"reap": pid}

A dead child stays a zombie until the parent orders it to be reaped: its process id must not be reused while the parent may
send signals to it.  Host and children end together: the kernel kills a child whose host has died, and a host without its
parent ends its children.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
from types import ModuleType
from typing import Any

PACKET = 1 << 20
DEVICES = ("/dev/nvidia-uvm", "/dev/kfd", "/dev/dri/render")  # files that an initialised driver keeps open


def _load_main() -> ModuleType:
    """``main.py`` as a module, imported by its path, since any interpreter may run this."""
    import importlib.util

    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "main.py")
    spec = importlib.util.spec_from_file_location("slmperf_worker_main", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["slmperf_worker_main"] = module
    spec.loader.exec_module(module)
    return module


def unfit() -> str | None:
    """Why this process must not be forked (threads, or an initialised device driver); None if it may."""
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"the engine has started {threads - 1} threads while it was imported"
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
        if target.startswith(DEVICES):
            return f"the engine has opened {target} while it was imported"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "the engine has initialised CUDA while it was imported"
    return None


def _rename_marker(marker: str) -> None:
    """Write this child's own marker into /proc/self/environ, which shows the environment with which the host was started.

    Both markers have the same length, so that it is overwritten in place; children forked from here inherit it.
    """
    import ctypes

    tools = sys.modules["slmperf_worker_tools"]
    old = f"{tools.MARKER}={os.environ[tools.MARKER]}".encode() + b"\0"
    with open("/proc/self/stat", "rb") as stat:
        fields = stat.read().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])  # env_start and env_end: fields 50 and 51, counted from 1
    at = ctypes.string_at(start, end - start).find(old) if start else -1
    new = f"{tools.MARKER}={marker}".encode() + b"\0"
    if at >= 0 and len(new) == len(old):
        ctypes.memmove(start + at, new, len(new))
    os.environ[tools.MARKER] = marker


class Host:
    def __init__(self, worker_file: str, channel: socket.socket) -> None:
        self.worker_file = worker_file
        self.channel = channel
        self.main = sys.modules["slmperf_worker_main"]
        self.selector = selectors.DefaultSelector()
        self.children: dict[int, int] = {}  # pid → its descriptor
        self.logs: dict[int, Any] = {}  # pid → what bounds its log
        self.ended: set[int] = set()

    def send(self, message: dict[str, Any]) -> None:
        self.channel.send(json.dumps(message).encode())

    def prepare(self) -> str | None:
        """Import the engine; the reason why this process cannot fork, or None."""
        began, used = time.monotonic(), time.process_time()
        module = sys.modules["slmperf_worker_tools"].load_file("slmperf_adapter", self.worker_file)
        try:
            module.prepare()
        except Exception as error:
            description = self.main._describe(error)
            print(description["traceback"], file=sys.stderr, flush=True)
            self.send({"unfit": description["message"]})
            return str(description["message"])
        reason = unfit()
        if reason is not None:
            self.send({"unfit": reason})
            return reason
        gc.collect()
        gc.freeze()  # a garbage collection in a child would copy every page that it visits
        spent = {"import_s": time.monotonic() - began, "import_cpu_s": time.process_time() - used}
        self.send({"ready": spent})
        return None

    def serve(self) -> None:
        """Fork children until the parent closes the channel, and then end them."""
        self.selector.register(self.channel, selectors.EVENT_READ)
        while True:
            events = self.selector.select(self.main.LOOK_S if self.logs else None)
            for log in self.logs.values():
                log.keep()
            for key, _ in events:
                if key.fileobj is self.channel:
                    if not self.receive():
                        return
                else:
                    self.report(int(key.data))

    def receive(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self.channel, PACKET, 3)
        if not data:
            return False
        message = json.loads(data)
        if "fork" in message:
            try:
                self.fork(message["fork"], descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
        elif message.get("reap") in self.children:
            self.reap(message["reap"])
        return True

    def fork(self, order: dict[str, Any], descriptors: list[int]) -> None:
        reason = unfit()
        if reason is not None:
            self.send({"failed": reason})
            return
        host = os.getpid()
        log = sys.modules["slmperf_worker_tools"].LogBound(os.dup(descriptors[2]))
        try:
            pid = os.fork()
        except OSError as error:
            log.close()
            self.send({"failed": f"fork: {error.strerror}"})
            return
        if pid == 0:
            try:
                self.become(order, descriptors, host)
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(70)
        self.children[pid], self.logs[pid] = os.pidfd_open(pid), log
        self.selector.register(self.children[pid], selectors.EVENT_READ, pid)
        self.send({"forked": pid})

    def become(self, order: dict[str, Any], descriptors: list[int], host: int) -> None:
        """The life of a child: it takes a session, a log and a marker of its own, and continues as a launch."""
        commands, events, log = descriptors
        os.setsid()
        self.main._die_with_parent(host)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        self.selector.close()
        for bound in self.logs.values():
            bound.close()
        for descriptor in self.children.values():
            os.close(descriptor)
        self.channel.close()
        env = dict(order["env"])
        _rename_marker(env.pop(sys.modules["slmperf_worker_tools"].MARKER))
        os.environ.clear()
        os.environ.update(env)
        os.chdir(order["cwd"])
        self.main._leave_guardian()
        self.main.main(self.worker_file, commands, events)

    def report(self, pid: int) -> None:
        """Report the end of a child, which stays a zombie until the parent orders it to be reaped."""
        descriptor = self.children[pid]
        result = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOWAIT)
        self.selector.unregister(descriptor)
        self.ended.add(pid)
        self.end_orphans()
        self.logs.pop(pid).close()
        if result is not None:
            code = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
            self.send({"ended": [pid, code]})

    def end_orphans(self) -> None:
        """Kill the processes that ended children have left; this process adopted them, whatever their group or session."""
        tools = sys.modules["slmperf_worker_tools"]
        for _ in range(200):
            orphans = [pid for pid in tools.children_of(os.getpid()) if pid not in self.children]
            if not orphans:
                return
            for pid in orphans:
                for each in (*tools.descendants(pid), pid):
                    try:
                        os.kill(each, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
                os.waitpid(pid, 0)

    def reap(self, pid: int) -> None:
        descriptor = self.children.pop(pid)
        if pid not in self.ended:  # killed by the parent, and its end not yet noticed here
            self.selector.unregister(descriptor)
            self.logs.pop(pid).close()
        self.ended.discard(pid)
        os.waitid(os.P_PIDFD, descriptor, os.WEXITED)
        os.close(descriptor)

    def end_children(self) -> None:
        for pid in self.children:
            if pid not in self.ended:
                try:
                    os.kill(pid, signal.SIGKILL)  # its guardian ends the processes that it had started
                except ProcessLookupError:
                    continue


def run(worker_file: str, channel_fd: int) -> None:
    """Run a host until its parent closes the channel."""
    os.set_inheritable(channel_fd, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main = sys.modules["slmperf_worker_main"]
    main._prctl(main.PR_SET_CHILD_SUBREAPER, 1)
    host = Host(worker_file, socket.socket(fileno=channel_fd))
    try:
        if host.prepare() is None:
            host.serve()
    finally:
        host.end_children()


if __name__ == "__main__":
    _main = _load_main()
    if "--with-parent" in sys.argv:
        _main._die_with_parent(int(sys.argv[sys.argv.index("--with-parent") + 1]))
    _main._load_tools()
    run(sys.argv[1], int(sys.argv[2]))
