"""``slmperf completion``: completion of commands and options for the shell."""

from __future__ import annotations

import argparse
from typing import Any

from pytest_slmperf.errors import InvalidInput

EPILOG = """\
examples:
  slmperf completion bash > ~/.local/share/bash-completion/completions/slmperf
  slmperf completion zsh > ~/.zfunc/_slmperf
"""
SHELLS = ("bash", "zsh", "tcsh")


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "completion", help="print a shell completion script", epilog=EPILOG,
        description="Prints a script that completes slmperf's commands and options. Made by shtab (extra 'completion').",
    )  # fmt: skip
    parser.add_argument("shell", choices=SHELLS, help="the shell to complete in")


def run(args: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError as error:
        raise InvalidInput(f"completion needs shtab: pip install 'pytest-slmperf[completion]' ({error})") from error
    from pytest_slmperf.cli import build_parser

    print(shtab.complete(build_parser(), shell=args.shell))
    return 0
