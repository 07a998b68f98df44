"""``slmperf completion``: the script with which a shell completes commands, options, their values, and files."""

from __future__ import annotations

import argparse
from typing import Any

DESCRIPTION = "Prints a script that completes slmperf's commands, options and what they may be set to; files elsewhere."
EPILOG = """\
examples:
  source <(slmperf completion bash)             # in ~/.bashrc, or this shell only
  slmperf completion zsh > ~/.zfunc/_slmperf    # a folder of fpath, before compinit
  slmperf completion fish > ~/.config/fish/completions/slmperf.fish
"""


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "completion", help="print a shell completion script", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell to complete in")


def run(args: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode

    print(shellcode(["slmperf"], shell=args.shell), end="")
    return 0
