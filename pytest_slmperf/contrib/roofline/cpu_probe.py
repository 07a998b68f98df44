"""Measures a CPU's memory bandwidth and matrix rate, in a process of its own; prints one JSON line.

Standard library and the engine's torch (or numpy) only, Python 3.10: run by path under the engine's interpreter.
Bandwidth: streaming read of an array that is larger than every cache (a matrix-vector product, as in decoding), in float32,
since conversion limits half-precision products on many CPUs.  Matrix rate: a square product in the requested dtype.  The
best of several repeats counts, since the result is a limit.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

READ_MIB = 512
SIZES = (256, 512, 1024, 2048)


def best(work: Callable[[], Any], seconds: float) -> float:
    """Least seconds of one call of ``work``, repeated for about ``seconds``."""
    work()
    least, end = float("inf"), time.monotonic() + seconds
    while True:
        start = time.perf_counter()
        work()
        least = min(least, time.perf_counter() - start)
        if time.monotonic() > end:
            return least


def rate(product: Callable[[int], Callable[[], Any]], seconds: float) -> float:
    """FLOP/s of the largest square product within ``seconds``: some CPUs multiply half precision in a scalar loop."""
    work, size = product(SIZES[0]), SIZES[0]
    least = best(work, 0.0)
    for larger in SIZES[1:]:
        if 2 * least * (larger / size) ** 3 > seconds:
            break
        work, size = product(larger), larger
        least = best(work, 0.0)
    return 2 * size**3 / best(work, seconds)


def with_torch(torch: Any, dtype: str, threads: int, seconds: float) -> tuple[float, float, str]:
    """Bytes/s, FLOP/s, tool."""
    torch.set_num_threads(threads)
    kind = getattr(torch, dtype)
    width = 4096
    matrix, vector = torch.ones(READ_MIB * 2**18 // width, width), torch.ones(width)

    def product(size: int) -> Callable[[], Any]:
        a, b = torch.ones(size, size, dtype=kind), torch.ones(size, size, dtype=kind)
        return lambda: torch.mm(a, b)

    with torch.inference_mode():
        read = best(lambda: torch.mv(matrix, vector), seconds)
        flops = rate(product, seconds)
    return matrix.numel() * 4 / read, flops, f"torch {torch.__version__}"


def with_numpy(numpy: Any, seconds: float) -> tuple[float, float, str]:
    """Bytes/s, FLOP/s, tool; the number of threads is the environment's."""
    width = 4096
    matrix = numpy.ones((READ_MIB * 2**20 // (width * 4), width), dtype=numpy.float32)
    vector = numpy.ones(width, dtype=numpy.float32)

    def product(size: int) -> Callable[[], Any]:
        a = numpy.ones((size, size), dtype=numpy.float32)
        return lambda: a @ a

    read = best(lambda: matrix @ vector, seconds)
    return matrix.nbytes / read, rate(product, seconds), f"numpy {numpy.__version__}"


def main() -> None:
    """Arguments: dtype, threads, seconds per measurement."""
    dtype, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    try:
        import torch
    except ImportError:
        import numpy

        bandwidth, flops, tool = with_numpy(numpy, seconds)
        dtype = "float32"
    else:
        bandwidth, flops, tool = with_torch(torch, dtype, threads, seconds)
    print(json.dumps({"bandwidth": bandwidth, "flops": flops, "dtype": dtype, "tool": tool, "threads": threads}))


main()
