"""Every option once: command-line flag, ini twin, default, type and help. The reference page is made from this table.

Precedence: marker > command line > ini > default of the profile > default here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

Convert = Callable[[str], Any]


def fraction(text: str) -> float:
    """'0.01' or '1%' as a share between 0 and 1, ends excluded on the upper side."""
    raw = text.strip()
    try:
        value = float(raw[:-1]) / 100 if raw.endswith("%") else float(raw)
    except ValueError:
        raise ValueError(f"must be a share such as 0.02 or 2%, not {text!r}") from None
    if not 0 <= value < 1:
        raise ValueError(f"must be at least 0 and less than 1 (100%), not {text!r}")
    return value


def alpha(text: str) -> float:
    value = fraction(text)
    if not 0 < value < 0.5:
        raise ValueError(f"must lie between 0 and 0.5, both excluded, not {text!r}")
    return value


def margins(text: str) -> tuple[str | None, float]:
    """'0.02' (every metric) or 'ttft_p99=0.1' (one metric)."""
    name, equals, value = text.rpartition("=")
    return (name.strip() or None) if equals else None, fraction(value)


def key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"must be KEY=VALUE, not {text!r}")
    return key.strip(), value.strip()


def evidence_limit(text: str) -> tuple[str, float | None]:
    """'cpu_wait_share=0.2' or 'psi_cpu_some=off': a limit of ``verdicts.contamination.Limits`` by its name."""
    from dataclasses import fields

    from pytest_slmperf.measuring.evidence.contamination import Limits

    name, _, raw = (part.strip() for part in text.partition("="))
    known = [one.name for one in fields(Limits)]
    if name not in known:
        raise ValueError(f"unknown limit {name!r}; known are {', '.join(known)}")
    if raw == "off":
        return name, None
    try:
        value = float(raw[:-1]) / 100 if raw.endswith("%") else float(raw)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a number of at least 0, such as {name}=0.2, or off; not {raw!r}")
    return name, value


def seconds(text: str) -> float:
    """'90', '90s', '4m', '1h' as seconds; more than 0."""
    raw = text.strip().lower()
    unit = {"s": 1, "m": 60, "h": 3600}.get(raw[-1:])
    try:
        value = float(raw[:-1]) * unit if unit else float(raw)
    except ValueError:
        raise ValueError(f"must be a time such as 90s, 4m or 1h, not {text!r}") from None
    if not 0 < value < float("inf"):
        raise ValueError(f"must be more than 0 seconds, not {text!r}")
    return value


def count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f"must be a whole number, not {text!r}") from None
    if value < 1:
        raise ValueError(f"must be at least 1, not {text!r}")
    return value


def positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"must be a number, not {text!r}") from None
    if not 0 < value < float("inf"):
        raise ValueError(f"must be more than 0, not {text!r}")
    return value


def one_of(*choices: str) -> Convert:
    def convert(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {text!r}")
        return text

    convert.choices = choices  # type: ignore[attr-defined]
    return convert


@dataclass(frozen=True, slots=True)
class Option:
    """``name`` without the prefix: ``max-time`` is ``--slmperf-max-time`` and ``slmperf_max_time``."""

    name: str
    help: str
    metavar: str
    convert: Convert = str
    default: Any = None
    many: bool = False  # may be given several times; ini: one a line

    @property
    def flag(self) -> str:
        return f"--slmperf-{self.name}"

    @property
    def key(self) -> str:
        return "slmperf_" + self.name.replace("-", "_")


OPTIONS: tuple[Option, ...] = (
    Option("engine", "engine to measure: vllm, vllm-async, vllm-server, transformers, openai, simulated, or one "
           "that a plugin adds", "NAME",
           default="vllm"),
    Option("model", "preset, local folder or hub id of the model", "NAME|PATH", default="opt-125m"),
    Option("weights", "dummy (random, nothing downloaded) or real; default: dummy for presets, else real", "KIND",
           one_of("dummy", "real")),
    Option("dtype", "number format of the model, by the engine's name for it", "DTYPE"),
    Option("device", "device to serve on: cpu, cuda:0, …; default: the first GPU if the engine's build uses it, else "
           "the CPU", "DEVICE"),
    Option("python", "interpreter that runs the engine; default: the one that runs pytest", "PATH"),
    Option("set", "an engine argument by the engine's own name; may be given several times", "KEY=VALUE", key_value,
           many=True),
    Option("endpoint", "URL of an OpenAI-compatible server, for --slmperf-engine openai", "URL"),
    Option("profile", "quick (minutes, for each change) or full (the larger parameter lists)", "quick|full",
           one_of("quick", "full"), default="quick"),
    Option("launches", "engine launches a test starts with; more follow while its verdict is open", "N", count),
    Option("rounds", "measured rounds in each launch", "N", count),
    Option("max-launches", "most launches that one test may use", "N", count),
    Option("max-time", "time budget of the whole session; default: 215s in the quick profile, 900s where a GPU serves, none "
           "in the full profile", "TIME", seconds),
    Option("start-timeout", "longest time an engine may take to start", "TIME", seconds, default=900.0),
    Option("round-timeout", "longest time a single round may take", "TIME", seconds, default=300.0),
    Option("baselines", "where baselines are kept", "DIR|URL", default="baselines"),
    Option("baseline", "name of the baseline to compare with", "NAME", default="main"),
    Option("save", "also store this session's results under that baseline name", "NAME"),
    Option("reason", "why the baseline is changed; recorded in it (with --slmperf-approve or --slmperf-save)", "TEXT"),
    Option("across", "compare although these parts of the machine's identity changed: driver, gpus, cpu, cores",
           "PART,…", many=True),
    Option("against", "duet: measure a second side interleaved: python=PATH, engine.KEY=VALUE,… or endpoint=URL",
           "SPEC"),
    Option("alpha", "chance of a false alarm in the whole session", "SHARE", alpha, default=0.01),
    Option("tolerance", "change that is never flagged, for all metrics or for one: 0.01, 1%%, ttft_p99=5%%",
           "[METRIC=]SHARE", margins, many=True),
    Option("limit", "change that must not pass, for all metrics or for one: 0.05, 5%%, ttft_p99=20%%", "[METRIC=]SHARE",
           margins, many=True),
    Option("fail-on", "verdict from which a test fails; inconclusive includes a missing or incomparable baseline", "VERDICT",
           one_of("regressed", "inconclusive", "never"), default="regressed"),
    Option("evidence-limit", "what a clean round may show at most, for instance cpu_wait_share=20%% or steal_share=off",
           "NAME=VALUE", evidence_limit, many=True),
    Option("quarantine", "test id, * and ? standing for any characters: measured and reported, never failed", "PATTERN",
           many=True),
    Option("meter", "energy meter: nvml, rapl, amd, none, or one that a plugin adds; default: the first available", "NAME"),
    Option("energy-bound", "largest relative error of an energy reading; windows are repeated until it is met", "SHARE",
           fraction, default=0.02),
    Option("price-per-kwh", "your price of a kWh, to show costs", "PRICE", positive),
    Option("carbon-g-per-kwh", "your grid's gCO2 per kWh, to show emissions", "GRAMS", positive),
    Option("html", "HTML report; default: report.html in the state folder", "PATH"),
    Option("json", "results file; default: results.json in the state folder", "PATH"),
    Option("export", "also write results in another tool's format; may be given several times", "FORMAT=PATH", key_value,
           many=True),
    Option("state-dir", "folder for reports, logs, journal and the machine profile", "DIR", default=".slmperf"),
)  # fmt: skip

BY_KEY: dict[str, Option] = {option.key: option for option in OPTIONS}


def add_options(parser: pytest.Parser) -> None:
    """Register the group; values stay text here and are converted by ``value``, where the source can be named."""
    group = parser.getgroup("slmperf", "performance tests of small language models")
    group.addoption("--slmperf", action="store_true", default=False, help="run performance tests (skipped otherwise)")
    group.addoption(
        "--slmperf-approve",
        action="store_true",
        default=False,
        help="make this session's results the baseline, after showing what changes",
    )
    for option in OPTIONS:
        arguments: dict[str, Any] = {"dest": option.key, "metavar": option.metavar, "default": None}
        if option.many:
            arguments["action"] = "append"
        shown = f" (default: {option.default})" if option.default is not None else ""
        group.addoption(option.flag, help=option.help + shown, **arguments)
        kind: Literal["linelist", "string"] = "linelist" if option.many else "string"
        parser.addini(option.key, help=f"ini twin of {option.flag}", type=kind, default=[] if option.many else None)


def _converted(option: Option, raw: str, source: str) -> Any:
    try:
        return option.convert(raw)
    except ValueError as error:
        raise pytest.UsageError(f"{source}: {error}") from None


def value(config: pytest.Config, name: str) -> Any:
    """The value of an option: command line, else ini, else its default (None, or [] for repeatable ones)."""
    option = BY_KEY["slmperf_" + name.replace("-", "_")]
    given = config.getoption(option.key, None)
    source = option.flag
    if given is None:
        given = config.getini(option.key)
        source = f"{option.key} in {config.inipath.name if config.inipath else 'the ini file'}"
    if option.many:
        items: Sequence[str] = given or []
        return [_converted(option, item, source) for item in items]
    if given == "" and source == option.flag:  # an unset variable in a script must not choose the default in silence
        raise pytest.UsageError(f"{source} is empty: give {option.metavar}, or leave the option away")
    if given is None or given == "":
        return option.default
    return _converted(option, str(given), source)


def folder(config: pytest.Config, name: str) -> Path:
    """What a relative path in this option is relative to, as pytest has it for its own options: the folder where pytest
    was started for the command line, the ini file's folder for the ini, the rootdir for defaults."""
    option = BY_KEY["slmperf_" + name.replace("-", "_")]
    if config.getoption(option.key, None) is not None:
        return config.invocation_params.dir
    if config.inipath is not None and config.getini(option.key):
        return config.inipath.parent
    return config.rootpath


def validate(config: pytest.Config) -> None:
    """Convert every option once, so that a wrong one ends the session before anything is measured."""
    for option in OPTIONS:
        value(config, option.name)


def shown_url(place: str) -> str:
    """A place of baselines fit for showing: the password of a URL is left out."""
    from urllib.parse import urlsplit, urlunsplit

    if "://" not in place:
        return place
    parts = urlsplit(place)
    if parts.password is None:
        return place
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":…@")))
