"""Running sums over many gaps and tokens in little memory, made in a client process and merged by the parent."""

from __future__ import annotations

from collections import Counter

BITS = 11  # of each gap kept: the value sent to the parent is within 2⁻¹² of the measured one


def rounded(value_ns: int) -> int:
    """``value_ns`` kept to its first ``BITS`` bits, the middle of its bin: relative error below 2⁻¹¹ ÷ 2."""
    shift = value_ns.bit_length() - BITS
    if shift <= 0:
        return value_ns
    return (value_ns >> shift << shift) + (1 << (shift - 1))


class Tally:
    """Gaps between tokens of the measured requests, and tokens over time of all."""

    def __init__(self, window_start_ns: int, window_end_ns: int, tiles: int) -> None:
        self.start, self.end = window_start_ns, window_end_ns
        self.gaps: Counter[int] = Counter()
        self.gap_sum = 0
        self.gap_count = 0
        self.tiles = [0] * tiles
        self._width = max(1, -(-(window_end_ns - window_start_ns) // tiles))

    def add(self, chunks: list[list[int]], measured: bool) -> int:
        """Take the chunks ([time ns, tokens ≥ 1], in order) of one request; returns its tokens inside the window.

        A chunk of k tokens gives k gaps of gap ÷ k.  The first chunk gives none: what lies before it is not a gap.
        """
        inside = 0
        before = None
        for at, tokens in chunks:
            if self.start <= at < self.end:
                inside += tokens
                self.tiles[(at - self.start) // self._width] += tokens
            if measured and before is not None:
                gap = at - before
                self.gaps[rounded(gap // tokens)] += tokens
                self.gap_sum += gap
                self.gap_count += tokens
            before = at
        return inside


def spread(chunks: list[list[int]], n_out: int) -> None:
    """Give every chunk its tokens, in place, where the server told only their sum: as even as whole numbers allow.

    Where the events told their own tokens and these add up to ``n_out`` nothing is changed.
    """
    if not chunks:
        return
    told = sum(tokens for _, tokens in chunks)
    if told == n_out and all(tokens for _, tokens in chunks):
        return
    count = len(chunks)
    if n_out < count:  # more content events than the server counts tokens: an event is then the finest that is known
        for chunk in chunks:
            chunk[1] = 1
        return
    for index, chunk in enumerate(chunks):
        chunk[1] = (index + 1) * n_out // count - index * n_out // count
