"""``slmperf completion``: completion of commands, options and their values for bash, zsh and fish."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

DESCRIPTION = "Prints a script that completes slmperf's commands, options and what they may be set to; files elsewhere."
EPILOG = """\
examples:
  source <(slmperf completion bash)             # in ~/.bashrc, or this shell only
  slmperf completion zsh > ~/.zfunc/_slmperf    # a folder of fpath, before compinit
  slmperf completion fish > ~/.config/fish/completions/slmperf.fish
"""


@dataclass(frozen=True, slots=True)
class Option:
    """One flag; ``values`` are its choices, ``takes`` whether a word follows it."""

    flags: tuple[str, ...]
    help: str
    takes: bool
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """``path`` is the command as typed (``slmperf baselines list``); ``words`` what may follow, with a line of help."""

    path: str
    words: tuple[tuple[str, str], ...]
    options: tuple[Option, ...]


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "completion", help="print a shell completion script", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("shell", choices=tuple(SHELLS), help="the shell to complete in")


def run(args: argparse.Namespace) -> int:
    from pytest_slmperf.cli.main import build_parser

    print(SHELLS[args.shell](list(commands(build_parser(), "slmperf"))), end="")
    return 0


def commands(parser: argparse.ArgumentParser, path: str) -> Iterator[Command]:
    """The parser and every parser below it, as argparse holds them."""
    options, words, below = [], [], []
    for action in parser._actions:
        told = action.help not in (None, argparse.SUPPRESS)
        text = parser._get_formatter()._expand_help(action) if told else ""
        values = tuple(map(str, action.choices or ()))
        if action.option_strings:
            options.append(Option(tuple(action.option_strings), text, action.nargs != 0, values))
        elif isinstance(action, argparse._SubParsersAction):
            helps = {entry.dest: entry.help or "" for entry in action._choices_actions}
            words += [(name, helps.get(name, "")) for name in action.choices]
            below += list(action.choices.items())
        else:
            words += [(value, text) for value in values]
    yield Command(path, tuple(words), tuple(options))
    for name, child in below:
        yield from commands(child, f"{path} {name}")


def bash(found: list[Command]) -> str:
    rows = [
        "# bash completion of slmperf",
        "_slmperf() {",
        '  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path=slmperf words="" options="" word',
        '  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
        f'    case "$path $word" in {_below(found)}) path="$path $word" ;; esac',
        "  done",
        '  case "$path $prev" in',
    ]
    for places, values in _settings(found):
        rows.append(f"    {places}) {_compgen(values) if values else 'COMPREPLY=()'}; return ;;")
    rows += ["  esac", '  case "$path" in']
    for command in found:
        words = " ".join(name for name, _ in command.words)
        flags = " ".join(flag for option in command.options for flag in option.flags)
        rows.append(f'    "{command.path}") words="{words}" options="{flags}" ;;')
    rows += [
        "  esac",
        "  if [[ $cur == -* ]]; then words=$options; fi",
        f"  {_compgen('$words')}",
        "}",
        "complete -o default -F _slmperf slmperf  # nothing of ours fits: files",
    ]
    return "\n".join(rows) + "\n"


def zsh(found: list[Command]) -> str:
    rows = [
        "#compdef slmperf",
        "_slmperf() {",
        "  local at=slmperf word prev=$words[CURRENT-1]",
        "  local -a commands options values",
        "  for word in ${words[2,CURRENT-1]}; do",
        f'    case "$at $word" in ({_below(found)}) at="$at $word" ;; esac',
        "  done",
        '  case "$at $prev" in',
    ]
    for places, values in _settings(found):
        rows.append(f"    ({places}) {f'compadd -- {values}' if values else '_files'}; return ;;")
    rows += ["  esac", "  case $at in"]
    for command in found:
        words = " ".join(_quoted(f"{name}:{text}") for name, text in command.words)
        flags = " ".join(_quoted(f"{flag}:{option.help}") for option in command.options for flag in option.flags)
        rows.append(f'    ("{command.path}") commands=({words}) options=({flags}) ;;')
    rows += [
        "  esac",
        "  if [[ $PREFIX == -* ]]; then _describe option options",
        "  elif (( $#commands )); then _describe command commands",
        "  else _files; fi",
        "}",
        'if [[ $funcstack[1] == _slmperf ]]; then _slmperf "$@"; else compdef _slmperf slmperf; fi',
    ]
    return "\n".join(rows) + "\n"


def fish(found: list[Command]) -> str:
    rows = [
        "# fish completion of slmperf",
        "function __slmperf_at",
        "  set -l at slmperf",
        "  for word in (commandline -opc)[2..-1]",
        f'    switch "$at $word"; case {_below(found, " ")}; set at "$at $word"; end',
        "  end",
        '  test "$at" = "$argv"',
        "end",
    ]
    for command in found:
        here = f"complete -c slmperf -n '__slmperf_at {command.path}'"
        rows += [f"{here} -f -a {_quoted(name)} -d {_quoted(text)}" for name, text in command.words]
        for option in command.options:
            flags = " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags)
            takes = f" -x -a {_quoted(' '.join(option.values))}" if option.values else " -r" if option.takes else ""
            rows.append(f"{here} {flags}{takes} -d {_quoted(option.help)}")
    return "\n".join(rows) + "\n"


def _settings(found: list[Command]) -> Iterator[tuple[str, str]]:
    """Every option that takes a word: a pattern of its spellings after their command, and its choices, if it has any."""
    for command in found:
        for option in command.options:
            if option.takes:
                yield "|".join(f'"{command.path} {flag}"' for flag in option.flags), " ".join(option.values)


def _compgen(words: str) -> str:
    return f'COMPREPLY=($(compgen -W "{words}" -- "$cur"))'


def _below(found: list[Command], between: str = "|") -> str:
    """The commands below ``slmperf`` as patterns."""
    return between.join(f'"{command.path}"' for command in found[1:])


def _quoted(text: str) -> str:
    return "'" + " ".join(text.replace("\\", "").replace("'", "’").split()) + "'"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
