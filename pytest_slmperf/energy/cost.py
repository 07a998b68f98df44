"""Cost and emissions of joules, at the user's own figures. None in, None out: nothing missing becomes 0."""

from __future__ import annotations

JOULES_PER_KWH = 3.6e6


def cost(joules: float | None, price_per_kwh: float | None) -> float | None:
    """In the currency of the user's own price per kWh; None without a price, which is never guessed."""
    return None if joules is None or price_per_kwh is None else joules / JOULES_PER_KWH * price_per_kwh


def carbon_g(joules: float | None, carbon_g_per_kwh: float | None) -> float | None:
    """Grams of CO2 by the user's own figure for the grid; None without one, which is never guessed."""
    return None if joules is None or carbon_g_per_kwh is None else joules / JOULES_PER_KWH * carbon_g_per_kwh


def costs(
    joules: float | None, joules_per_token: float | None, price_per_kwh: float | None, carbon_g_per_kwh: float | None
) -> dict[str, float] | None:
    """The user's figures, and cost and gCO2 of these joules and of a million output tokens, for the record of a result.

    Without what lacks a reading or a figure; None where the user gave no figure.
    """
    if price_per_kwh is None and carbon_g_per_kwh is None:
        return None
    million = None if joules_per_token is None else joules_per_token * 1e6
    figures = {
        "price_per_kwh": price_per_kwh,
        "cost": cost(joules, price_per_kwh),
        "cost_per_million_output_tokens": cost(million, price_per_kwh),
        "carbon_g_per_kwh": carbon_g_per_kwh,
        "carbon_g": carbon_g(joules, carbon_g_per_kwh),
        "carbon_g_per_million_output_tokens": carbon_g(million, carbon_g_per_kwh),
    }
    return {name: value for name, value in figures.items() if value is not None}
