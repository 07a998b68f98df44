"""The record of a result's energy."""

from __future__ import annotations

from typing import Any

import msgspec


class Metered(msgspec.Struct, kw_only=True):
    """Meter, scope and devices of joules. ``devices``: kind (a GPU's name, not its UUID) → number.

    ``own``: only the engine's devices were metered; a change of their number is a change of the engine.
    """

    source: str
    scope: str
    devices: dict[str, int]
    own: bool = False


class WholeRounds(msgspec.Struct, kw_only=True):
    """Joules over the whole rounds, with a bound for any power at their edges. ``gaps_s``: the part of ``window_s`` between
    rounds that follow each other closely."""

    joules: float
    bound_j: float | None = None
    window_s: float = 0.0
    gaps_s: float = 0.0


class DeviceEnergy(msgspec.Struct, kw_only=True):
    """One device's part of the sum. ``edges``: where its windows begin and end; ``missing``: unreadable quantities."""

    name: str
    uuid: str | None = None
    source: str | None = None
    scope: str | None = None
    tick_s: float | None = None
    joules: float = 0.0
    bound_j: float = 0.0
    window_s: float = 0.0
    edges: list[Any] = []
    missing: dict[str, Any] = {}


class Witness(msgspec.Struct, kw_only=True):
    """A second source over the same windows. ``disagreement``: relative to the first source; None if that read 0 J."""

    source: str
    joules: float
    bound_j: float
    disagreement: float | None = None


class PowerTrace(msgspec.Struct, kw_only=True):
    """Power over time, thinned; ``watts``: device → a value for each of ``t_s``."""

    t_s: list[float] = []
    watts: dict[str, list[float]] = {}


class Energy(msgspec.Struct, kw_only=True):
    """Energy of the measured rounds. ``source`` None: nothing was measured, and ``reason`` says why."""

    source: str | None = None
    reason: str | None = None
    scope: str | None = None  # GPU, module, package, …
    joules: float | None = None
    bound_j: float | None = None  # |measured − true| ≤ bound_j, quantisation and alignment
    gain: float | None = None  # relative gain uncertainty, not in the bound: it cancels between runs on one device
    tick_s: float | None = None
    window_s: float | None = None
    idle_w_before: float | None = None
    idle_w_after: float | None = None
    idle_w_bare: float | None = None  # before the session's first engine started
    idle_bare_reason: str | None = None  # why ``idle_w_bare`` is None
    net_joules: float | None = None
    edges: str | None = None  # "ticks": the window runs from tick to tick inside the rounds; "rounds": over the rounds
    rounds: WholeRounds | None = None
    repeats: str | None = None  # whether the requested bound was reached, or why the repetition ended
    counted: str | None = None  # the devices in the sum
    metered: Metered | None = None  # only joules with equal values are compared
    cost: dict[str, float] | None = None  # from the user's own figures only
    devices: list[DeviceEnergy] = []
    witness: Witness | None = None
    warnings: list[str] = []
    trace: PowerTrace | None = None
