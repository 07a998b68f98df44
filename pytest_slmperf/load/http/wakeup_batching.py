"""When to let answers gather for a moment, so that one wake-up of the client serves many of them.

The kernel has stamped the bytes by then, so a nap costs no accuracy as long as no connection receives twice in it.
"""

from __future__ import annotations

LONGEST_NS = 500_000
SHORTEST_NS = 100_000
LEAST_READS = 4  # in a nap, or it does not pay
SHARE = 0.1  # of the mean time between two reads of one connection
SPAN_NS = 5_000_000  # over which the rate of reads is taken


class Nap:
    """``length_ns`` is how long the loop may sleep before it asks for events; 0: not at all."""

    def __init__(self) -> None:
        self.length_ns = 0
        self._wanted = 0
        self._since = 0
        self._reads = 0

    def after_pass(self, reads: int, now_ns: int, running: int, drained: bool) -> None:
        """``running``: requests that wait for bytes; ``drained``: the pass read all that there was."""
        self._reads += reads
        span = now_ns - self._since
        if span >= SPAN_NS:
            rate = self._reads / span
            length = min(float(LONGEST_NS), SHARE * running / rate) if rate else 0.0
            self._wanted = round(length) if length >= SHORTEST_NS and length * rate >= LEAST_READS else 0
            self._since, self._reads = now_ns, 0
        self.length_ns = self._wanted if drained else 0
