"""What changed between the two sides of a comparison."""

from __future__ import annotations

from typing import Any

import msgspec


class Difference(msgspec.Struct, kw_only=True):
    """One thing that is not the same on both sides and yet may be compared: a version, a setting, a clock, …"""

    what: str
    baseline: Any = None
    candidate: Any = None
