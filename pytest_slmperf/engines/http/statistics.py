"""What an OpenAI-compatible server publishes of itself while it is under load."""

from __future__ import annotations

import threading
from collections.abc import Callable

PREEMPTIONS = ("vllm:num_preemptions_total", "vllm:num_preemptions")
KV_USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
RUNNING = ("vllm:num_requests_running",)
LEAST_READINGS = 10


def pick(counters: dict[str, float], names: tuple[str, ...]) -> float | None:
    """The first counter of these names that the server has."""
    return next((counters[name] for name in names if name in counters), None)


class CounterWatch:
    """Reads the server's own statistics before, twice a second during, and after a load."""

    def __init__(self, read: Callable[[], dict[str, float]], every_s: float = 0.5) -> None:
        self._read = read
        self._every = every_s
        self._done = threading.Event()
        self.kv_peak: float | None = None
        self.running: list[float] = []
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}

    def __enter__(self) -> CounterWatch:
        self.before = self._read()
        self._thread = threading.Thread(target=self._watch, name="slmperf-counters", daemon=True)
        if self.before:
            self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(self._every):
            now = self._read()
            usage = pick(now, KV_USAGE)
            if usage is not None:
                self.kv_peak = max(self.kv_peak or 0.0, 100.0 * usage)
            running = pick(now, RUNNING)
            if running is not None:
                self.running.append(running)

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        if self.before:
            self._thread.join(10)
            self.after = self._read()

    @property
    def mean_running(self) -> float | None:
        """Running requests on average; None where too few readings fell into the load."""
        return sum(self.running) / len(self.running) if len(self.running) >= LEAST_READINGS else None

    @property
    def preemptions(self) -> int | None:
        """Preemptions between the two outer readings; None where the server does not count them."""
        before, after = pick(self.before, PREEMPTIONS), pick(self.after, PREEMPTIONS)
        return None if before is None or after is None else round(after - before)
