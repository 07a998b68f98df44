"""The options of the command line and their ini twins: registered from the table of settings, and read.

Values stay text until they are read, so that a wrong one can be reported with the place where it was given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from pytest_slmperf.pytest_plugin.setting_table import OPTIONS, Setting


def add_options(parser: pytest.Parser) -> None:
    """Register the group of options and the ini keys."""
    group = parser.getgroup("slmperf", "performance tests of small language models")
    group.addoption("--slmperf", action="store_true", default=False, help="run performance tests (skipped otherwise)")
    group.addoption(
        "--slmperf-approve",
        action="store_true",
        default=False,
        help="make this session's results the baseline, after showing what changes",
    )
    for option in OPTIONS.values():
        arguments: dict[str, Any] = {"dest": option.ini, "metavar": option.metavar, "default": None}
        if option.many:
            arguments["action"] = "append"
        shown = f" (default: {option.shown_default})" if option.shown_default else ""
        group.addoption(option.flag, help=(option.help + shown).replace("%", "%%"), **arguments)
        kind: Literal["linelist", "string"] = "linelist" if option.many else "string"
        parser.addini(option.ini, help=f"ini twin of {option.flag}", type=kind, default=[] if option.many else None)


def given(config: pytest.Config, name: str) -> Any:
    """What the command line, else the ini file gives, converted; None where neither does, [] for a repeatable option."""
    option = OPTIONS[name]
    text = config.getoption(option.ini, None)
    source = option.flag
    if text == "" and not option.many:  # an unset variable in a script must not choose the default in silence
        raise pytest.UsageError(f"{source} is empty: give {option.metavar}, or leave the option away")
    if text is None:
        text = config.getini(option.ini)
        source = f"{option.ini} in {config.inipath.name if config.inipath else 'the ini file'}"
    if option.many:
        return [_converted(option, item, source) for item in text or []]
    return _converted(option, str(text), source) if text else None


def value(config: pytest.Config, name: str) -> Any:
    """What is given, else the default; None for a default that the profile or the device decides."""
    chosen = given(config, name)
    return OPTIONS[name].fixed_default if chosen is None else chosen


def _converted(option: Setting, text: str, source: str) -> Any:
    try:
        return option.kind.from_text(text)
    except ValueError as error:
        raise pytest.UsageError(f"{source}: {error}") from None


def folder(config: pytest.Config, name: str) -> Path:
    """The folder that a relative path in this option starts from, by pytest's rule for its own options: the folder where
    pytest was started for the command line, the ini file's folder for the ini, the rootdir for defaults."""
    option = OPTIONS[name]
    if config.getoption(option.ini, None) is not None:
        return config.invocation_params.dir
    if config.inipath is not None and config.getini(option.ini):
        return config.inipath.parent
    return config.rootpath


def validate(config: pytest.Config) -> None:
    """Convert every option once, so that a wrong value ends the session before anything is measured."""
    for name in OPTIONS:
        value(config, name)


def shown_url(place: str) -> str:
    """The place of the baselines without the password of its URL."""
    from urllib.parse import urlsplit, urlunsplit

    if "://" not in place:
        return place
    parts = urlsplit(place)
    if parts.password is None:
        return place
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":…@")))
