"""Sums over many gaps and tokens in little memory, made in a client process and merged by the parent.

Standard library only and Python 3.10: engines use it too.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from operator import sub

# The bin of a gap is the upper bits of its single-precision float: sign, exponent and 11 bits of the fraction. The middle of
# the bin, which is sent to the parent, has a relative error of at most 2⁻¹².
DROPPED = 12


def bin_of(gaps: list[int]) -> list[int]:
    """The bin of each gap (ns, 0 or more)."""
    bits = array("I", array("f", gaps).tobytes())
    return [pattern >> DROPPED for pattern in bits]


def middle(place: int) -> int:
    """The gap (ns) that represents a bin."""
    bits = array("I", [place << DROPPED | 1 << (DROPPED - 1)])
    return round(array("f", bits.tobytes())[0])


class Tally:
    """Gaps between tokens of the measured requests, and tokens over time of all requests."""

    def __init__(self, window_start_ns: int, window_end_ns: int, tiles: int) -> None:
        self.start, self.end = window_start_ns, window_end_ns
        self._bins: Counter[int] = Counter()
        self.gap_sum = 0
        self.gap_count = 0
        self.tiles = [0] * tiles
        self._width = max(1, -(-(window_end_ns - window_start_ns) // tiles))

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """(gap in ns, count), rising."""
        return [(middle(place), times) for place, times in sorted(self._bins.items())]

    def add(self, times: list[int], tokens: list[int], measured: bool) -> int:
        """Add the chunks (times in ns, rising, and tokens ≥ 1) of one request; returns its tokens inside the window.

        A chunk of k tokens gives k gaps of gap ÷ k.  The first chunk gives none, since no token precedes it.
        """
        gaps = list(map(sub, times[1:], times))
        if gaps and min(gaps) < 0:  # somebody has set the clock of the kernel's time stamps
            times = list(accumulate(times, max))
            gaps = list(map(sub, times[1:], times))
        if measured and gaps:
            if max(tokens) == 1:
                self._bins.update(bin_of(gaps))
                self.gap_count += len(gaps)
            else:
                each = bin_of([gap // k for gap, k in zip(gaps, tokens[1:])])  # noqa: B905 (Python 3.10)
                for place, k in zip(each, tokens[1:]):  # noqa: B905
                    self._bins[place] += k
                self.gap_count += sum(tokens) - tokens[0]
            self.gap_sum += times[-1] - times[0]
        return self._over_time(times, tokens)

    def _over_time(self, times: list[int], tokens: list[int]) -> int:
        first, last = bisect_left(times, self.start), bisect_left(times, self.end)
        begin = first
        while begin < last:
            tile = (times[begin] - self.start) // self._width
            upto = bisect_left(times, self.start + (tile + 1) * self._width, begin, last)
            self.tiles[tile] += sum(tokens[begin:upto])
            begin = upto
        return sum(tokens[first:last])


def spread(tokens: list[int], n_out: int) -> list[int]:
    """The tokens of each chunk, as evenly as possible, if only their sum ``n_out`` is known.

    Counts per event are kept if their sum is ``n_out``.
    """
    count = len(tokens)
    if all(tokens) and sum(tokens) == n_out:
        return tokens
    if n_out <= count:  # more content events than tokens: events are the finest known unit
        return [1] * count
    return [(index + 1) * n_out // count - index * n_out // count for index in range(count)]
