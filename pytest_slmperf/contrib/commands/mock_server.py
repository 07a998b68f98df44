"""``slmperf mock-server``: an OpenAI-compatible server whose times and faults are planned, to test a measurement with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_slmperf.cli import output

EXAMPLES = """\
examples:
  slmperf mock-server --ttft 40 --itl 8 --jitter 0.1
  slmperf mock-server --port 0 --fault 429:0.05 --truth sent.jsonl
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the subcommand to the ``slmperf`` command line."""
    from pytest_slmperf.contrib.mock_server.plan import FAULTS

    faults = "\n".join(f"  {kind:14} {text}" for kind, text in FAULTS.items())
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "mock-server",
        help="an OpenAI-compatible server that does what it is told",
        description="Serve /v1/completions and /v1/chat/completions with latencies and faults of your choice. It runs no\n"
        "model. GET /truth tells what it sent and when (CLOCK_MONOTONIC nanoseconds).",
        epilog=f"faults:\n{faults}\n\n{EXAMPLES}",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0: any free one (default 8000)")
    parser.add_argument("--ttft", type=float, default=50.0, metavar="MS", help="request to first token (default 50)")
    parser.add_argument("--itl", type=float, default=10.0, metavar="MS", help="from token to token (default 10)")
    parser.add_argument(
        "--jitter", type=float, default=0.0, metavar="SHARE", help="each wait varies by ± this share of it"
    )
    parser.add_argument("--chunk", type=int, default=1, metavar="TOKENS", help="tokens in each event (default 1)")
    parser.add_argument("--empty-first", action="store_true", help="begin with an event without content, as chat does")
    parser.add_argument(
        "--most-tokens", type=int, metavar="N", help="end every answer after so many tokens, whatever was asked for"
    )
    parser.add_argument("--no-usage", action="store_true", help="never send token counts")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND[:SHARE]",
        help="make a share of the requests fail; may be repeated",
    )
    parser.add_argument("--retry-after", type=int, default=7, metavar="S", help="what a 429 says (default 7)")
    parser.add_argument("--model", default="mock", help="the model name it gives itself")
    parser.add_argument("--seed", type=int, default=0, help="of jitter and faults")
    parser.add_argument("--truth", metavar="PATH", help="write what was sent as JSONL when it ends")
    return parser


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted. Raises InvalidInput for a plan that makes no sense."""
    from pytest_slmperf.contrib.mock_server.plan import Fault, MockPlan
    from pytest_slmperf.contrib.mock_server.server import run as serve
    from pytest_slmperf.errors import InvalidInput

    if not 0 <= args.port <= 65535:
        raise InvalidInput(f"--port {args.port}: must be 0 to 65535")
    plan = MockPlan(
        ttft_s=args.ttft / 1e3,
        itl_s=args.itl / 1e3,
        jitter=args.jitter,
        chunk=args.chunk,
        empty_first=args.empty_first,
        usage=not args.no_usage,
        most_tokens=args.most_tokens,
        faults=tuple(Fault.parse(text) for text in args.fault),
        retry_after_s=args.retry_after,
        model=args.model,
        seed=args.seed,
    )
    if args.truth:  # an unwritable file is reported now, since the record would be lost at the end
        output.write_file(Path(args.truth), b"")
    try:
        return serve(plan, args.host, args.port, args.truth)
    except BrokenPipeError:  # of standard output, not of the port
        raise
    except OSError as error:
        raise InvalidInput(
            f"cannot listen on {args.host}:{args.port} ({error.strerror or error}); choose another --port or --host"
        ) from error
