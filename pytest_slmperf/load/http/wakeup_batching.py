"""How long to sleep before reading, so that one wake-up of the client serves many answers.

The kernel stamps bytes when they arrive, so a nap costs no accuracy as long as no connection receives twice in it.
"""

from __future__ import annotations

LONGEST_NS = 500_000
SHORTEST_NS = 100_000
LEAST_READS = 4  # a nap with fewer reads in it costs more than it saves
SHARE = 0.1  # longest nap, of the mean time between two reads of a connection
SPAN_NS = 5_000_000  # the rate of reads is measured over this time


class Nap:
    """``length_ns``: how long the loop may sleep before it asks for events; 0: do not sleep."""

    def __init__(self) -> None:
        self.length_ns = 0
        self._wanted = 0
        self._since = 0
        self._reads = 0

    def after_pass(self, reads: int, now_ns: int, running: int, drained: bool) -> None:
        """``running``: requests that wait for bytes; ``drained``: the pass read everything that had come."""
        self._reads += reads
        span = now_ns - self._since
        if span >= SPAN_NS:
            rate = self._reads / span
            length = min(float(LONGEST_NS), SHARE * running / rate) if rate else 0.0
            self._wanted = round(length) if length >= SHORTEST_NS and length * rate >= LEAST_READS else 0
            self._since, self._reads = now_ns, 0
        self.length_ns = self._wanted if drained else 0
