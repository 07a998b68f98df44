"""Near names for a name that is not known: what the user may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def near_names(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """At most ``count`` of the known names, the most similar first; empty where none is similar."""
    from difflib import get_close_matches

    return get_close_matches(name, list(known), n=count)
