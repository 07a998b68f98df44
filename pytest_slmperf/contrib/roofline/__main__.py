"""``python -m pytest_slmperf.contrib.roofline``: the roofline page of every preset, as Markdown on standard output."""

from __future__ import annotations

import argparse
import sys

from pytest_slmperf.contrib.roofline.measure import DEVICES, figures_of, measured_cpu
from pytest_slmperf.contrib.roofline.page import page
from pytest_slmperf.engines.presets import presets
from pytest_slmperf.errors import EngineError, InvalidInput
from pytest_slmperf.model.architecture import DTYPE_BYTES, UnknownFormat, kv_dtype, kv_head_bytes
from pytest_slmperf.reports.terminal.encoding import soften
from pytest_slmperf.util.stdout import quietly


def main() -> int:
    """Print the page; with ``--cpu`` for the CPU at hand, measured now."""
    parser = argparse.ArgumentParser(prog="python -m pytest_slmperf.contrib.roofline", description=main.__doc__)
    parser.add_argument("--dtype", default="float16", help="of the weights [%(default)s]")
    parser.add_argument(
        "--kv-cache-dtype", default="auto", help="of the KV cache, as vLLM names it [auto: the weights']"
    )
    parser.add_argument("--context", type=int, default=512, help="tokens per sequence [%(default)s]")
    parser.add_argument("--cpu", action="store_true", help="measure this CPU instead of the published accelerators")
    soften(sys.stdout, sys.stderr)
    args = parser.parse_args()
    if args.dtype not in DTYPE_BYTES:
        parser.error(f"argument --dtype: {args.dtype!r} is not known; one of {', '.join(DTYPE_BYTES)}")
    if args.context < 2:  # half of it is the prompt
        parser.error(f"argument --context: must be at least 2, not {args.context}")
    kept = kv_dtype(args.kv_cache_dtype, args.dtype)
    try:
        kv_head_bytes(64, kept)
    except UnknownFormat:
        parser.error(f"argument --kv-cache-dtype: how many bytes {args.kv_cache_dtype!r} takes is not known here")
    models = [figures for model in presets().values() if (figures := figures_of(model, args.dtype, kept)) is not None]
    try:
        devices = [measured_cpu(args.dtype)] if args.cpu else DEVICES
        print(page(models, devices, dtype=args.dtype, kv_dtype=kept, context=args.context))
    except (EngineError, InvalidInput) as error:
        parser.exit(3, f"{parser.prog}: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(quietly(main))
