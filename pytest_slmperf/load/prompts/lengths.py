"""Lengths of requests, in tokens: fixed, uniform, or drawn from published quantile tables."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from random import Random
from statistics import NormalDist
from typing import Protocol

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.util.checks import is_whole


class Lengths(Protocol):
    """A distribution of lengths. ``draw``: a whole number of tokens, at least 1."""

    def draw(self, random: Random) -> int: ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always ``tokens``: for shape and regression scenarios."""

    tokens: int

    def __post_init__(self) -> None:
        if not is_whole(self.tokens) or self.tokens < 1:
            raise InvalidInput(f"a length must be a whole number of at least 1 token, not {self.tokens!r}")

    def draw(self, random: Random) -> int:
        return self.tokens


@dataclass(frozen=True, slots=True)
class Uniform:
    """Whole numbers from ``low`` to ``high``, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise InvalidInput(f"a uniform length needs 1 <= low <= high, not {self.low!r} and {self.high!r}")

    def draw(self, random: Random) -> int:
        return random.randint(self.low, self.high)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Inverse transform of a quantile table, linear between its points.

    ``shares`` rise from 0 to 1, ``tokens`` never fall.  Draws come from the table itself, since a lognormal fits the Azure
    traces badly (Kolmogorov–Smirnov distance 0.11 to 0.18).  ``scale`` multiplies every length, which keeps the shape of a
    trace on a machine that is too slow for its size.
    """

    shares: tuple[float, ...]
    tokens: tuple[float, ...]
    scale: float = 1.0

    def __post_init__(self) -> None:
        ordered = all(a < b for a, b in zip(self.shares, self.shares[1:], strict=False))
        if len(self.shares) != len(self.tokens) or len(self.shares) < 2 or not ordered:
            raise InvalidInput("a quantile table needs as many token values as shares, and shares that rise")
        if self.shares[0] != 0 or self.shares[-1] != 1:
            raise InvalidInput("a quantile table needs p0 and p100")
        if any(a > b for a, b in zip(self.tokens, self.tokens[1:], strict=False)) or self.tokens[0] < 0:
            raise InvalidInput("the token values of a quantile table must not fall")
        if not self.scale > 0:
            raise InvalidInput(f"the scale of lengths must be above 0, not {self.scale!r}")

    def at(self, share: float) -> float:
        """The quantile at ``share`` (0 to 1), in tokens, before rounding and with the scale applied."""
        for index in range(1, len(self.shares)):
            if share <= self.shares[index]:
                low, high = self.shares[index - 1], self.shares[index]
                part = (share - low) / (high - low)
                return self.scale * (self.tokens[index - 1] + part * (self.tokens[index] - self.tokens[index - 1]))
        return self.scale * self.tokens[-1]

    def draw(self, random: Random) -> int:
        return max(1, round(self.at(random.random())))


@dataclass(frozen=True, slots=True)
class ClippedLognormal:
    """A lognormal of the given mean (before clipping) and log-scale spread ``sigma``, clipped to ``low`` … ``high``."""

    mean: float
    sigma: float
    low: int
    high: int

    def draw(self, random: Random) -> int:
        mu = math.log(self.mean) - self.sigma**2 / 2
        return min(self.high, max(self.low, round(math.exp(NormalDist(mu, self.sigma).inv_cdf(_open(random))))))


def _open(random: Random) -> float:
    """A draw from (0, 1), since ``Random.random`` can return 0, for which a normal quantile is undefined."""
    return random.random() or 5e-324


@dataclass(frozen=True, slots=True)
class LengthPair:
    """Input and output lengths of one workload, drawn independently, since the tables have no joint distribution."""

    name: str
    input: Lengths
    output: Lengths


@cache
def quantile_tables() -> dict[str, tuple[Quantiles, Quantiles]]:
    """Input and output table of each packaged trace (source, licence and citation: ``data/README.md``)."""
    text = resources.files("pytest_slmperf.load.prompts").joinpath("data/azure_lengths.csv").read_text("utf-8")
    rows = list(csv.reader(text.splitlines()))
    shares = tuple(float(column.removeprefix("p")) / 100 for column in rows[0][2:])
    tables = {(row[0], row[1]): Quantiles(shares, tuple(float(cell) for cell in row[2:])) for row in rows[1:]}
    return {name: (tables[name, "input"], tables[name, "output"]) for name, quantity in tables if quantity == "input"}


def sharegpt_like(scale: float = 1.0) -> LengthPair:
    """ShareGPT-like lengths, with means of 161 tokens in and 338 out, as in Recasens et al. (EuroMLSys 2024).

    Only these means are published; the lognormal shape, its spread (σ = 1) and the clipping to 4 … 1024 tokens are this
    project's choice, hence the "like" in the name.
    """
    high = max(1, round(1024 * scale))
    low = min(4, high)
    return LengthPair(
        "sharegpt-like",
        ClippedLognormal(161 * scale, 1.0, low, high),
        ClippedLognormal(338 * scale, 1.0, low, high),
    )


def named(name: str, scale: float = 1.0) -> LengthPair:
    """The packaged length distributions: ``azure-2023-conv``, ``azure-2023-code``, ``sharegpt-like``."""
    if not scale > 0:
        raise InvalidInput(f"the scale of lengths must be above 0, not {scale!r}")
    if name == "sharegpt-like":
        return sharegpt_like(scale)
    tables = quantile_tables()
    if name not in tables:
        known = ", ".join([*tables, "sharegpt-like"])
        raise InvalidInput(f"unknown workload {name!r}; there are: {known}, or a .jsonl or .csv file of your own")
    inputs, outputs = tables[name]
    return LengthPair(
        name,
        Quantiles(inputs.shares, inputs.tokens, scale),
        Quantiles(outputs.shares, outputs.tokens, scale),
    )


def draw_pairs(pair: LengthPair, count: int, seed: int, limit: int | None = None) -> Sequence[tuple[int, int]]:
    """``count`` (input, output) lengths. ``limit``: largest number of tokens in a request, such as a server's
    ``max_model_len``; longer requests are cut, input first, but not below 1 + 1."""
    if limit is not None and limit < 2:
        raise InvalidInput(f"the limit on tokens of a request must be at least 2, not {limit!r}")
    random = Random(f"lengths:{pair.name}:{seed}")
    pairs = []
    for _ in range(count):
        n_in, n_out = pair.input.draw(random), pair.output.draw(random)
        if limit is not None and n_in + n_out > limit:
            n_out = min(n_out, limit - 1)
            n_in = min(n_in, limit - n_out)
        pairs.append((n_in, n_out))
    return pairs
