"""Checks of rounds: whether the machine was disturbed during a round, and where the warm-up of a fresh engine ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_slmperf.statistics.launch_centre import check_rounds
from pytest_slmperf.util.checks import is_number
from pytest_slmperf.util.formatting import counted, percent, portion

# Disturbed rounds, recognised by their evidence and never by the measured value. The evidence is the change of
# ``environment.evidence`` during a round, the energy meter's observations of the devices, and the engine's own counters.
# Evidence that the system does not report is absent, and its check passes.


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest values in a clean round; None switches a check off.

    cpu_wait_share:       share of the round in which an engine thread was runnable without a CPU (on a two-core virtual
                          machine 1 to 5 % at rest, from helper threads; at least 50 % with a busy neighbour on the core)
    cpu_wait_above_usual: difference of that share from the median over the launch's rounds: a constant wait is not a
                          disturbance, a temporary wait is
    nivcsw_per_s:         involuntary context switches of the engine; tens of thousands if OpenMP threads share a core
    others_share:         share of the machine's CPUs that other processes than the engine and the harness use
    sm_clock_band:        relative distance of the SM clock from its median over the rounds
    throttle_share:       share of the round in which a GPU was throttled for heat or by its power brake
    power_cap_share:      off, since a saturated GPU runs at its power cap; the check of the clock covers lasting effects
    """

    cpu_wait_share: float | None = 0.10
    cpu_wait_above_usual: float | None = 0.03
    nivcsw_per_s: float | None = 1000.0
    steal_share: float | None = 0.02
    psi_cpu_some: float | None = 0.25
    others_share: float | None = 0.6
    throttle_share: float | None = 0.01
    power_cap_share: float | None = None
    sm_clock_band: float | None = 0.05
    other_gpu_processes: bool | None = True
    preemptions: int | None = 0


DEFAULT_LIMITS = Limits()
# In a duet, a neighbour slows the interleaved rounds of both sides equally: steady disturbances cancel, and discarding them
# would leave no rounds on a machine that is never quiet.  Disturbances of single rounds are still discarded.
DUET_LIMITS = Limits(cpu_wait_above_usual=None, steal_share=0.10, psi_cpu_some=None, others_share=None)
_HEAT = ("sw_thermal", "hw_thermal", "hw_power_brake")


def contaminated(
    evidence: Mapping[str, Any], limits: Limits = DEFAULT_LIMITS, *, usual_sm_mhz: Mapping[str, float] | None = None
) -> str | None:
    """Why a round with this evidence is discarded, in a few words; None for a clean round.

    ``usual_sm_mhz``: the usual SM clock by device (see ``usual_clocks``); without it clocks are not judged.
    """
    window = _number(evidence, "window_s")
    checks: list[tuple[float | None, float | None, str, Callable[[float], str]]] = [
        (
            _number(evidence, "cpu_wait_share"),
            limits.cpu_wait_share,
            "the engine waited for a CPU in {} of the round",
            portion,
        ),
        (
            _per_second(evidence, "nivcsw", window),
            limits.nivcsw_per_s,
            "{} a second",
            lambda rate: counted(round(rate), "involuntary context switch", "involuntary context switches"),
        ),
        (_number(evidence, "steal_share"), limits.steal_share, "the hypervisor took {} of the CPU time", portion),
        (_pressure(evidence), limits.psi_cpu_some, "tasks waited for a CPU in {} of the round (PSI)", portion),
        (_others(evidence), limits.others_share, "other processes kept {} of the CPUs busy", portion),
        (
            _number(evidence, "preemptions"),
            limits.preemptions,
            "{} preempted",
            lambda count: counted(round(count), "request was", "requests were"),
        ),
    ]
    for value, limit, words, shown in checks:
        if value is not None and limit is not None and value > limit:
            return words.format(shown(value))
    for name, device in _devices(evidence):
        reason = _device(device, limits, window, (usual_sm_mhz or {}).get(name))
        if reason:
            return f"{name}: {reason}"
    return None


def judge_rounds(evidence: Sequence[Mapping[str, Any]], limits: Limits = DEFAULT_LIMITS) -> list[str | None]:
    """Reason or None for each round of one test.

    All rounds together determine the usual SM clock, the engine's usual wait for a CPU, and whether preemptions are usual
    (in more than half of the rounds: they then belong to the scenario and discard no round).
    """
    preempted = sum(1 for item in evidence if (_number(item, "preemptions") or 0) > (limits.preemptions or 0))
    if preempted > len(evidence) / 2:
        from dataclasses import replace

        limits = replace(limits, preemptions=None)
    usual = usual_clocks(evidence)
    reasons = [contaminated(item, limits, usual_sm_mhz=usual) for item in evidence]
    above = limits.cpu_wait_above_usual
    waits = [_number(item, "cpu_wait_share") for item in evidence]
    known = sorted(wait for wait in waits if wait is not None)
    if above is not None and len(known) >= 3:
        level = known[len(known) // 2] + above
        for number, wait in enumerate(waits):
            if reasons[number] is None and wait is not None and wait > level:
                reasons[number] = (
                    f"the engine waited for a CPU in {portion(wait)} of the round, usually in {portion(level - above)}"
                )
    return reasons


def usual_clocks(evidence: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Median over at least three rounds of each device's lowest SM clock in a round, MHz."""
    from statistics import median

    clocks: dict[str, list[float]] = {}
    for item in evidence:
        for name, device in _devices(item):
            clock = _number(device, "sm_clock_mhz_min")
            if clock:
                clocks.setdefault(name, []).append(clock)
    return {name: median(values) for name, values in clocks.items() if len(values) >= 3}


def may_measure_again(discarded: int, wanted: int) -> bool:
    """Whether another round may replace a contaminated round: at most ``wanted`` rounds, or ``LEAST``, may be.

    Beyond that, the machine is not fit for measuring, and the verdict is ``inconclusive: environment``.
    """
    return discarded <= max(wanted, LEAST)


def _device(device: Mapping[str, Any], limits: Limits, window: float | None, usual: float | None) -> str | None:
    others = device.get("other_gpu_processes")
    if limits.other_gpu_processes and others:
        return f"{len(others)} other process{'es' if len(others) > 1 else ''} on the GPU"
    by_reason = device.get("throttle_reasons") or {}
    if window:
        hot = sum(by_reason.get(name, 0) for name in _HEAT) / 1e9 / window
        capped = by_reason.get("sw_power_cap", 0) / 1e9 / window
        if limits.throttle_share is not None and hot > limits.throttle_share:
            return f"throttled for heat or by the power brake in {portion(min(hot, 1))} of the round"
        if limits.power_cap_share is not None and capped > limits.power_cap_share:
            return f"held at the power cap in {portion(min(capped, 1))} of the round"
    low, high = _number(device, "sm_clock_mhz_min"), _number(device, "sm_clock_mhz_max")
    if limits.sm_clock_band is not None and usual:
        for clock in (low, high):
            if clock is not None and abs(clock / usual - 1) > limits.sm_clock_band:
                return f"SM clock {clock:.0f} MHz, usually {usual:.0f} MHz"
    return None


def _devices(evidence: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    gpus = evidence.get("gpus")
    return list(gpus.items()) if isinstance(gpus, Mapping) else []


def _pressure(evidence: Mapping[str, Any]) -> float | None:
    """CPU pressure (PSI), if the kernel does not report the wait of the engine's own threads. PSI is of the whole machine,
    and processes that compete for another core do not harm the engine."""
    return None if _number(evidence, "cpu_wait_share") is not None else _number(evidence, "psi_cpu_some")


def _others(evidence: Mapping[str, Any]) -> float | None:
    others, cpus = _number(evidence, "others_cpus"), _number(evidence, "cpus")
    return None if others is None or not cpus else others / cpus


def _per_second(evidence: Mapping[str, Any], key: str, window: float | None) -> float | None:
    value = _number(evidence, key)
    return None if value is None or not window or window <= 0 else value / window


def _number(evidence: Mapping[str, Any], key: str) -> float | None:
    value = evidence.get(key)
    return float(value) if is_number(value) else None


# The warm-up of a fresh engine. Rounds at the start are warm-up while they differ from the later rounds by more than the
# scatter of these. The rest is steady if its two halves agree and it has at least half of all rounds.

LEAST = 5  # rounds that must remain for an answer
GROUP = 3  # warm-up fades: three successive rounds, each slightly off, are warm-up too
FLOOR = 0.003  # a difference up to 0.3 % is not warm-up, even if the rounds scatter less
_MAD_TO_SD = 1.4826


@dataclass(frozen=True, slots=True)
class Steady:
    """The end of the warm-up.

    warmup: number of rounds at the start that do not count
    steady: whether the remaining rounds may be used
    reason: one line for a reader
    drift:  relative change from the first to the second half of the remaining rounds
    """

    warmup: int
    steady: bool
    reason: str
    drift: float | None = None


def steady_state(rounds: Sequence[float], *, least: int = LEAST) -> Steady:
    """Judge the rounds of one launch so far (positive values of one metric, or round seconds).

    Call it again after further rounds; the first round that counts has the index ``warmup``.  InvalidInput unless all
    readings are positive and finite.
    """
    if len(rounds):
        check_rounds(rounds, "rounds")
    logs = np.log(np.asarray(rounds, dtype=float))
    for start in range(min(max(0, len(logs) - least), len(logs) // 2) + 1):
        rest = logs[start:]
        if len(rest) < least or _leads_differently(rest):
            continue
        drift, noise = _drift(rest)
        if abs(drift) > max(2 * FLOOR, 3 * noise):
            continue
        return Steady(start, True, f"steady after {start} warm-up rounds", float(np.expm1(drift)))
    if len(logs) < least:
        return Steady(
            len(logs), False, f"{len(logs)} rounds are too few to tell: at least {least} must follow the warm-up"
        )
    tail = logs[min(len(logs) // 2, len(logs) - 2) :]
    drift, _ = _drift(tail)
    return Steady(
        len(logs) - len(tail),
        False,
        f"not steady within {len(logs)} rounds: the second half still drifts by {percent(np.expm1(drift))} or is not calm",
        float(np.expm1(drift)),
    )


def _scatter(values: NDArray[np.float64]) -> float:
    """Standard deviation, from the median absolute deviation."""
    return float(_MAD_TO_SD * np.median(np.abs(values - np.median(values))))


def _leads_differently(rest: NDArray[np.float64]) -> bool:
    """Whether the first round, or the first group of rounds, is off from the rounds that follow."""
    for size, times in ((1, 3.0), (GROUP, 3.0)):
        after = rest[size:]
        if len(after) < max(2, GROUP):
            continue
        scatter = max(_scatter(after), FLOOR / 3)
        off = abs(float(np.median(rest[:size])) - float(np.median(after)))
        # 1.25: standard error of a median ÷ standard error of a mean
        if off > max(FLOOR, times * scatter * (1 if size == 1 else 1.25 * (1 / size + 1 / len(after)) ** 0.5)):
            return True
    return False


def _drift(rest: NDArray[np.float64]) -> tuple[float, float]:
    """Log-ratio of the second half to the first, by medians, and its standard error.

    The scatter comes from the differences of neighbouring rounds about their median, in which a steady drift cancels.
    """
    half = len(rest) // 2
    first, second = rest[:half], rest[half:]
    scatter = _scatter(np.diff(rest)) / 2**0.5
    noise = 1.25 * scatter * (1 / len(first) + 1 / len(second)) ** 0.5
    return float(np.median(second) - np.median(first)), noise
