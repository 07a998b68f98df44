"""Conditions of a GPU during a window: throttling, clocks, temperature, other processes. Evidence, judged elsewhere."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any

from pytest_slmperf.devices.gpus import Gpu
from pytest_slmperf.devices.nvml import Nvml
from pytest_slmperf.devices.selection import is_own
from pytest_slmperf.energy.counter.tick_schedule import Clock

SM_CLOCK, TEMPERATURE_GPU = 1, 0


@dataclass(frozen=True, slots=True)
class Glance:
    """One observation. ``others``: GPU processes outside this run. None in a field: the device did not report it."""

    t: float
    sm_mhz: int | None
    celsius: int | None
    others: tuple[int, ...] | None
    unplaced: int = 0  # processes that NVML lists but that this process namespace does not see
    busy_percent: int | None = None  # NVML's GPU utilisation: share of its last sample period in which a kernel ran


class Surroundings:
    """Observes slow-changing conditions every ``every_s``; the caller passes the throttle counters."""

    def __init__(self, nvml: Nvml, gpu: Gpu, clock: Clock, every_s: float = 0.25) -> None:
        self._nvml = nvml
        self._gpu = gpu
        self._every_s = every_s
        self._due = clock.now()
        self._glances: list[Glance] = []
        self._times: list[float] = []
        self._throttle: list[tuple[float, dict[str, int]]] = []  # (when first seen, counters), an entry per change
        self._unthrottled: list[float] = []  # per entry: last time with the older counters
        self.last = float("-inf")
        self._own: dict[int, bool] = {}

    def look(self, t: float, throttle_ns: dict[str, int]) -> None:
        """Observe, given the throttle counters at t."""
        if throttle_ns and (not self._throttle or throttle_ns != self._throttle[-1][1]):
            self._throttle.append((t, throttle_ns))
            self._unthrottled.append(self.last)
        self.last = t
        if t < self._due:
            return
        self._due = t + self._every_s
        others, unplaced = self._processes()
        rates = self._nvml.ask("nvmlDeviceGetUtilizationRates", self._gpu.handle)
        self._times.append(t)
        self._glances.append(
            Glance(
                t,
                self._nvml.ask("nvmlDeviceGetClockInfo", self._gpu.handle, SM_CLOCK),
                self._nvml.ask("nvmlDeviceGetTemperature", self._gpu.handle, TEMPERATURE_GPU),
                others,
                unplaced,
                None if rates is None else int(rates.gpu),
            )
        )

    def _processes(self) -> tuple[tuple[int, ...] | None, int]:
        running = self._nvml.ask("nvmlDeviceGetComputeRunningProcesses_v3", self._gpu.handle)
        if running is None:
            return None, 0
        pids = [int(process.pid) for process in running]
        placed = [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
        return tuple(pid for pid in placed if not self._is_own(pid)), len(pids) - len(placed)

    def _is_own(self, pid: int) -> bool:
        if pid not in self._own:
            self._own[pid] = is_own(pid)
        return self._own[pid]

    def detail(self, t_start: float, t_end: float) -> dict[str, Any]:
        """Evidence for one window: throttle_ns, sm_clock_mhz_min/max, temperature_c_max,
        utilization_percent_mean, other_gpu_processes.

        A key is absent where the device does not report it; a missing reading is never 0.
        """
        evidence: dict[str, Any] = {}
        throttle = self._throttled(t_start, t_end)
        if throttle is not None:
            evidence["throttle_ns"] = sum(throttle.values())
            evidence["throttle_reasons"] = {name: ns for name, ns in throttle.items() if ns}
        # The observations just before and after the window count too: a round may be shorter than the gap between them.
        first = max(0, bisect_right(self._times, t_start) - 1)
        last = min(len(self._times), bisect_left(self._times, t_end) + 1)
        near = self._glances[first:last]
        clocks = [glance.sm_mhz for glance in near if glance.sm_mhz is not None]
        if clocks:
            evidence["sm_clock_mhz_min"], evidence["sm_clock_mhz_max"] = min(clocks), max(clocks)
        heat = [glance.celsius for glance in near if glance.celsius is not None]
        if heat:
            evidence["temperature_c_max"] = max(heat)
        busy = [glance.busy_percent for glance in near if glance.busy_percent is not None]
        if busy:
            evidence["utilization_percent_mean"] = sum(busy) / len(busy)
        seen = [glance.others for glance in near if glance.others is not None]
        if seen:
            evidence["other_gpu_processes"] = sorted({pid for pids in seen for pid in pids})
            evidence["unplaced_gpu_processes"] = max(glance.unplaced for glance in near)
        return evidence

    def _throttled(self, t_start: float, t_end: float) -> dict[str, int] | None:
        """Upper bound of the advance of each throttle counter in the window, ns: at the edges, doubtful advances count."""
        if not self._throttle:
            return None
        before = self._throttle[max(0, bisect_right([t for t, _ in self._throttle], t_start) - 1)][1]
        after = self._throttle[max(0, bisect_left(self._unthrottled, t_end) - 1)][1]
        return {name: max(0, after[name] - before.get(name, after[name])) for name in after}
