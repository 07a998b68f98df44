"""The energy of a result, as it is recorded."""

from __future__ import annotations

from typing import Any

import msgspec


class Metered(msgspec.Struct, kw_only=True):
    """What joules were counted on. ``devices``: kind (a GPU's name, not its UUID) → how many.

    ``own``: they are those that the engine uses, so that another number of them is the engine's own doing.
    """

    source: str
    scope: str
    devices: dict[str, int]
    own: bool = False


class Energy(msgspec.Struct, kw_only=True):
    """Energy of the measured rounds. ``source`` None: nothing was measured, and ``reason`` says why."""

    source: str | None = None
    reason: str | None = None
    scope: str | None = None  # GPU, module, package, …
    joules: float | None = None
    bound_j: float | None = None  # |measured − true| ≤ bound_j, quantisation and alignment
    gain: float | None = None  # relative gain uncertainty kept apart: cancels between runs on one device
    tick_s: float | None = None
    window_s: float | None = None
    idle_w_before: float | None = None
    idle_w_after: float | None = None
    idle_w_bare: float | None = None  # before the session's first engine started
    idle_bare_reason: str | None = None  # why there is none
    net_joules: float | None = None
    edges: str | None = None  # "ticks": the window runs from tick to tick inside the rounds; "rounds": it is the rounds
    rounds: dict[str, Any] | None = None  # joules, bound_j, window_s over the whole rounds, whatever the power did
    repeats: str | None = None  # whether the asked-for bound was met, or what ended the repeating
    counted: str | None = None  # which devices are in the sum
    metered: Metered | None = None  # the same for a comparison: only joules of the same kind of meter are compared
    cost: dict[str, float] | None = None  # from the user's own figures only
    devices: list[dict[str, Any]] = []
    witness: dict[str, Any] | None = None  # second source: joules, bound_j, disagreement
    warnings: list[str] = []
    trace: dict[str, Any] | None = None  # downsampled power trace: t_s, watts per device
