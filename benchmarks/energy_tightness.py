"""The bound compared with the error at the worst phase of the counter's ticks (table of docs/explanation/energy.md).

    python benchmarks/energy_tightness.py [--traces 1000]

Random traces of several kinds, ticks of 20 to 500 ms, windows of 0.01 to 1.3 s; each is read at 8 phases of the ticks of the
fake GPU, in virtual time.  The least possible ratio of a bound to the error at the worst phase is about 1.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import tempfile
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=1000, help="of each kind")
    args = parser.parse_args()
    root = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(root), str(root / "tests")]
    import pynvml
    from support.fake_nvml import FakeGpu, FakeNvml, library
    from support.phase_sweep import FAMILIES, medians, sweep
    from tabulate import tabulate

    rows, outside = [], 0
    with tempfile.TemporaryDirectory() as folder:
        fake = FakeNvml(Path(folder), [FakeGpu()], virtual=True)
        os.environ["SLMPERF_FAKE_NVML"] = str(fake.path)
        pynvml.nvmlLib = ctypes.CDLL(str(library()))
        for family in FAMILIES:
            found = [sweep(fake, family, seed) for seed in range(args.traces)]
            outside += sum(error > bound + 1e-6 for one in found for error, bound in one.plain + one.around)
            m = medians(found)
            rows.append(
                [
                    family.__name__.replace("_", " "),
                    f"{m['bound']:.1f} J",
                    f"{m['worst']:.1f} J",
                    f"{m['bound'] / m['worst']:.2f}",
                    f"{m['bound'] / m['worst difference']:.2f}",
                    f"{m['bound between ticks'] / m['worst between ticks']:.2f}",
                ]
            )
        fake.close()
    heads = ["power", "bound", "worst phase", "bound ÷ worst phase", "… of the counter's difference", "… tick to tick"]
    print(tabulate(rows, heads, tablefmt="github"))
    print(f"\n{outside} readings outside their bound")
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main())
