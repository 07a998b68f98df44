"""Energy per unit of work, and power. All of them are gross: idle power is not taken off.

A meter's reading may be drawn in to the counter's ticks and holds the short gaps between rounds.  The rounds' own joules are
therefore its mean power times their seconds, so that joules per token times throughput is the mean power.
"""

from __future__ import annotations

from pytest_slmperf.metrics.base import computed

JOULES = "gross joules of the rounds (mean_power × their seconds)"


@computed("W", "lower", "gross joules ÷ measured window", positive=True)
def mean_power(joules: float, window_s: float) -> float:
    return joules / window_s


@computed("J/tok", "lower", f"{JOULES} ÷ output tokens", label="energy per output token", gate=True, positive=True)
def energy_per_output_token(mean_power: float, rounds_s: float, n_out: int) -> float:
    return mean_power * rounds_s / n_out


@computed("J/req", "lower", f"{JOULES} ÷ completed requests", label="energy per request", positive=True)
def energy_per_request(mean_power: float, rounds_s: float, completed: int) -> float:
    return mean_power * rounds_s / completed


@computed(
    "J·s",
    "lower",
    f"{JOULES} per request × mean end-to-end seconds of a request",
    label="energy-delay product",
    positive=True,
)
def energy_delay_product(energy_per_request: float, e2el_mean_ms: float) -> float:
    """Gonzalez and Horowitz, JSSC 1996."""
    return energy_per_request * e2el_mean_ms / 1e3


# Comparable only where both sides were read on the same kind of meter and devices.
METRICS = (energy_per_output_token, energy_per_request, mean_power, energy_delay_product)
