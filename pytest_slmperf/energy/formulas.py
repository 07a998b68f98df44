"""Energy metrics, cost and emissions from joules. Pure functions; None in, None out: nothing missing becomes 0."""

from __future__ import annotations

JOULES_PER_KWH = 3.6e6


def energy_per_output_token(joules: float | None, tokens: int) -> float | None:
    """Gross joules ÷ output tokens, J/tok; None without tokens."""
    return None if joules is None or tokens <= 0 else joules / tokens


def energy_per_request(joules: float | None, completed: int) -> float | None:
    """Gross joules ÷ completed requests, J/req; None without any."""
    return None if joules is None or completed <= 0 else joules / completed


def mean_power(joules: float | None, window_s: float) -> float | None:
    """Gross joules ÷ measured window, W."""
    return None if joules is None or window_s <= 0 else joules / window_s


def energy_delay_product(joules: float | None, completed: int, mean_e2el_s: float | None) -> float | None:
    """Gross joules per request × mean end-to-end seconds of a request, J·s (Gonzalez and Horowitz, JSSC 1996)."""
    per_request = energy_per_request(joules, completed)
    return None if per_request is None or mean_e2el_s is None else per_request * mean_e2el_s


def net_joules(joules: float | None, idle_w: float | None, window_s: float) -> float | None:
    """Gross joules less idle power (engine resident) over the window. Shown, never gated: idle power itself drifts."""
    return None if joules is None or idle_w is None else joules - idle_w * window_s


def cost(joules: float | None, price_per_kwh: float | None) -> float | None:
    """In the currency of the user's own price per kWh; None without a price, which is never guessed."""
    return None if joules is None or price_per_kwh is None else joules / JOULES_PER_KWH * price_per_kwh


def carbon_g(joules: float | None, carbon_g_per_kwh: float | None) -> float | None:
    """Grams of CO2 by the user's own figure for the grid; None without one, which is never guessed."""
    return None if joules is None or carbon_g_per_kwh is None else joules / JOULES_PER_KWH * carbon_g_per_kwh


def costs(
    joules: float | None, joules_per_token: float | None, price_per_kwh: float | None, carbon_g_per_kwh: float | None
) -> dict[str, float] | None:
    """What stands in a record: the user's figures, cost and gCO2 of these joules and of a million output tokens.

    As far as the readings and the user's figures go; None where the user gave none.
    """
    if price_per_kwh is None and carbon_g_per_kwh is None:
        return None
    million = None if joules_per_token is None else joules_per_token * 1e6
    found = {
        "price_per_kwh": price_per_kwh,
        "cost": cost(joules, price_per_kwh),
        "cost_per_million_output_tokens": cost(million, price_per_kwh),
        "carbon_g_per_kwh": carbon_g_per_kwh,
        "carbon_g": carbon_g(joules, carbon_g_per_kwh),
        "carbon_g_per_million_output_tokens": carbon_g(million, carbon_g_per_kwh),
    }
    return {name: value for name, value in found.items() if value is not None}
