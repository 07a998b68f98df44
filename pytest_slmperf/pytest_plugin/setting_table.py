"""The table of all settings: name, kind of value, default, help text, and the places where it may be given.

The command line's options, their ini keys, the marker's keys, the checks of all three and the reference pages are made from
this table. Precedence: marker > command line > ini > default.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from pytest_slmperf.model.defaults import ALPHA, LIMIT, TOLERANCE
from pytest_slmperf.pytest_plugin import setting_kinds as kinds
from pytest_slmperf.pytest_plugin.setting_kinds import Kind
from pytest_slmperf.util.checks import near_names


class ByProfile(NamedTuple):
    """A default that differs between the profiles."""

    quick: Any
    full: Any


class ByDevice(NamedTuple):
    """A default that differs between engines on a CPU and on a GPU."""

    cpu: Any
    gpu: Any


def resolved(default: Any, profile: str, gpu: bool) -> Any:
    """The default in this profile, on this kind of device."""
    if isinstance(default, ByProfile):
        return resolved(default.full if profile == "full" else default.quick, profile, gpu)
    if isinstance(default, ByDevice):
        return default.gpu if gpu else default.cpu
    return default


class Setting(NamedTuple):
    """``max-time`` is the option ``--slmperf-max-time``, the ini key ``slmperf_max_time``, the marker's key ``max_time``.

    ``given``: to the "session" (option and ini), to a "test" (marker), or to "both".
    ``many``: an option that may be given several times; in the ini file one value a line.
    ``default_text``: the default in words, where ``default`` itself does not say it.
    """

    name: str
    kind: Kind
    metavar: str
    help: str
    given: Literal["session", "test", "both"] = "session"
    default: Any = None
    default_text: str = ""
    many: bool = False

    @property
    def flag(self) -> str:
        return f"--slmperf-{self.name}"

    @property
    def ini(self) -> str:
        return "slmperf_" + self.key

    @property
    def key(self) -> str:
        """The marker's keyword."""
        return self.name.replace("-", "_")

    @property
    def fixed_default(self) -> Any:
        """The default if it depends on neither profile nor device, else None."""
        return None if isinstance(self.default, (ByProfile, ByDevice)) else self.default

    @property
    def shown_default(self) -> str:
        """The default in help and reference; empty without a default."""
        if self.default_text or self.default is None:
            return self.default_text
        if isinstance(self.default, ByDevice):
            return f"{self.default.cpu}; on a GPU {self.default.gpu}"
        if isinstance(self.default, ByProfile):
            return f"{self.default.quick}; in the full profile {self.default.full}"
        return str(self.default)


SETTINGS: tuple[Setting, ...] = (
    # --- the engine
    Setting("engine", kinds.TEXT, "NAME", "engine to measure: vllm, vllm-async, vllm-server, transformers, openai, "
            "simulated, or one that a plugin adds", "both", "vllm"),
    Setting("model", kinds.TEXT, "NAME|PATH", "preset, local folder or hub id of the model", "both", "opt-125m"),
    Setting("weights", kinds.OneOf("dummy", "real"), "KIND", "dummy (random, nothing downloaded) or real", "both",
            default_text="dummy for presets, else real"),
    Setting("dtype", kinds.TEXT, "DTYPE", "number format of the model, by the engine's name for it", "both"),
    Setting("device", kinds.TEXT, "DEVICE", "device to serve on: cpu, cuda:0, …", "both",
            default_text="the first GPU if the engine's build uses it, else the CPU"),
    Setting("python", kinds.TEXT, "PATH", "interpreter that runs the engine", default_text="the one that runs pytest"),
    # CPU engines start with what two cores can serve; a GPU holds a small model with room for hundreds of sequences.
    Setting("max-model-len", kinds.WHOLE, "N", "longest sequence the engine must serve, in tokens", "test",
            ByDevice(cpu=512, gpu=1024)),
    Setting("max-num-seqs", kinds.WHOLE, "N", "most sequences the engine runs at once", "test", ByDevice(cpu=64, gpu=512)),
    Setting("kv-cache-tokens", kinds.WHOLE, "N", "KV-cache budget in tokens", "test",
            default_text="chosen by the engine's adapter"),
    Setting("set", kinds.KeyValue(), "KEY=VALUE", "an engine argument by the engine's own name; may be given several times",
            many=True),
    Setting("settings", kinds.EngineArguments(), "MAPPING", "further engine arguments", "test"),
    Setting("endpoint", kinds.TEXT, "URL", "URL of an OpenAI-compatible server, for --slmperf-engine openai"),
    # --- how much is measured
    Setting("profile", kinds.OneOf("quick", "full"), "quick|full", "quick (minutes, for each change) or full (the larger "
            "parameter lists)", default="quick"),
    Setting("launches", kinds.WHOLE, "N", "engine launches a test starts with; more follow while its verdict is open, "
            "and up to 4 forked ones where there is no baseline yet",
            "both", ByProfile(quick=2, full=4)),
    Setting("rounds", kinds.WHOLE, "N", "measured rounds in each launch", "both",
            ByProfile(quick=ByDevice(cpu=3, gpu=5), full=10), "3 in the quick profile, 5 where a GPU serves; in the full "
            "profile 10"),
    Setting("max-launches", kinds.WHOLE, "N", "most launches that one test may use", "both", ByProfile(quick=6, full=16)),
    # On a GPU an engine takes ten times as long to start: kernels are compiled, graphs captured.
    Setting("max-time", kinds.SECONDS, "TIME", "time budget of the whole session", "session",
            ByProfile(quick=ByDevice(cpu=150.0, gpu=900.0), full=None),
            "150s in the quick profile, 900s where a GPU serves, none in the full profile"),
    Setting("max-time", kinds.SECONDS, "SECONDS", "longest time this test may measure", "test"),
    Setting("start-timeout", kinds.SECONDS, "TIME", "longest time an engine may take to start", default=900.0),
    Setting("fork", kinds.OneOf("auto", "never"), "auto|never", "auto: launches are forked from a host process that has "
            "imported the engine, where the engine allows it; never: each starts in a process of its own", default="auto"),
    Setting("round-timeout", kinds.SECONDS, "TIME", "longest time a single round may take", default=300.0),
    # --- what it is compared with
    Setting("baselines", kinds.TEXT, "DIR|URL", "where baselines are kept", default="baselines"),
    Setting("baseline", kinds.TEXT, "NAME", "name of the baseline to compare with", default="main"),
    Setting("save", kinds.TEXT, "NAME", "also store this session's results under that baseline name"),
    Setting("reason", kinds.TEXT, "TEXT", "why the baseline is changed; recorded in it (with --slmperf-approve or "
            "--slmperf-save)"),
    Setting("across", kinds.TEXT, "PART,…", "compare although these parts of the machine's identity changed: driver, gpus, "
            "cpu, cores", many=True),
    Setting("provisional", kinds.OneOf("auto", "always", "never"), "WHEN", "compare with this machine's last sessions where "
            "no stored baseline can be: auto (outside CI), always or never (as --slmperf-no-local)", default="auto"),
    Setting("against", kinds.TEXT, "SPEC", "duet: measure a second side interleaved: python=PATH, engine.KEY=VALUE,…, "
            "endpoint=URL, or merge-base[=REF], what the branch's merge base (with REF) defines"),
    Setting("install", kinds.TEXT, "WORDS", "what the engine's environment is installed from, as one would type it after "
            "pip install, for --slmperf-against merge-base: '-r requirements.txt', '.[perf]', '--group perf'; none: both "
            "sides run in the interpreter that is there",
            default_text="requirements-perf.txt, perf_tests/requirements.txt, requirements/perf.txt, requirements.txt or "
            "perf in pyproject.toml"),
    # --- the verdict
    Setting("gate", kinds.Gate(), "GATE", "False: measure and report, never fail; a list: gate exactly these", "test", True,
            "the scenario's own metrics"),
    Setting("alpha", kinds.FalseAlarmShare(), "SHARE", "chance of a false alarm in the whole session", default=ALPHA),
    Setting("tolerance", kinds.Margin(), "[METRIC=]SHARE", "change that is never flagged, for all metrics or for one: 0.01, "
            "1%, ttft_p99=5%", "both", TOLERANCE, many=True),
    Setting("limit", kinds.Margin(), "[METRIC=]SHARE", "change that must not pass, for all metrics or for one: 0.05, 5%, "
            "ttft_p99=20%", "both", LIMIT, many=True),
    Setting("fail-on", kinds.OneOf("regressed", "inconclusive", "never"), "VERDICT", "verdict from which a test fails; "
            "inconclusive includes a missing or incomparable baseline", default="regressed"),
    Setting("evidence-limit", kinds.EvidenceLimit(), "NAME=VALUE", "what a clean round may show at most, for instance "
            "cpu_wait_share=20% or steal_share=off", many=True),
    Setting("quarantine", kinds.TEXT, "PATTERN", "test id, * and ? standing for any characters: measured and reported, "
            "never failed", many=True),
    # --- energy
    Setting("meter", kinds.TEXT, "NAME", "energy meter: nvml, rapl, amd, none, or one that a plugin adds",
            default_text="the first available"),
    Setting("energy-bound", kinds.FRACTION, "SHARE", "largest relative error of an energy reading; windows are repeated "
            "until it is met", "both", 0.02),
    Setting("price-per-kwh", kinds.POSITIVE, "PRICE", "your price of a kWh, to show costs"),
    Setting("carbon-g-per-kwh", kinds.POSITIVE, "GRAMS", "your grid's gCO2 per kWh, to show emissions"),
    # --- what is written
    Setting("html", kinds.TEXT, "PATH", "HTML report", default_text="report.html in the state folder"),
    Setting("json", kinds.TEXT, "PATH", "results file", default_text="results.json in the state folder"),
    Setting("export", kinds.KeyValue(), "FORMAT=PATH", "also write results in another tool's format; may be given several "
            "times", many=True),
    Setting("state-dir", kinds.TEXT, "DIR", "folder for reports, logs, journal and the machine profile", default=".slmperf"),
)  # fmt: skip

OPTIONS: dict[str, Setting] = {setting.name: setting for setting in SETTINGS if setting.given != "test"}
MARKER_KEYS: dict[str, Setting] = {setting.key: setting for setting in SETTINGS if setting.given != "session"}


# Registering and reading options and ini keys. Values stay text until they are read, so that an error can name the place
# of a wrong value.


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
    group.addoption(
        "--slmperf-no-local",
        action="store_true",
        default=False,
        help="neither keep this machine's results nor compare with them: stored baselines only",
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
    """The converted value from the command line, or else from the ini file; else None, or [] for a repeatable option."""
    option = OPTIONS[name]
    text = config.getoption(option.ini, None)
    source = option.flag
    if text == "" and not option.many:  # an unset variable in a script must not silently select the default
        raise usage_error(f"{source} is empty: give {option.metavar}, or leave the option away")
    if text is None:
        text = config.getini(option.ini)
        source = f"{option.ini} in {config.inipath.name if config.inipath else 'the ini file'}"
    if option.many:
        return [_converted(option, item, source) for item in text or []]
    return _converted(option, str(text), source) if text else None


def value(config: pytest.Config, name: str) -> Any:
    """The given value, or else the default; None for a default that depends on profile or device."""
    chosen = given(config, name)
    return OPTIONS[name].fixed_default if chosen is None else chosen


def _converted(option: Setting, text: str, source: str) -> Any:
    try:
        return option.kind.from_text(text)
    except ValueError as error:
        raise usage_error(f"{source}: {error}") from None


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
    """Convert every option once, so that a wrong value ends the session before anything is measured.

    What is secret among the values is hidden from now on in whatever is printed and written.
    """
    from pytest_slmperf import redaction

    for place in (
        config.getoption(OPTIONS[name].ini, None) or config.getini(OPTIONS[name].ini) for name in _MAY_HOLD_KEYS
    ):
        for text in [place] if isinstance(place, str) else place or []:
            redaction.remember_given(text)
    for name in OPTIONS:
        value(config, name)


_MAY_HOLD_KEYS = ("baselines", "endpoint", "against", "set")


def usage_error(text: str) -> pytest.UsageError:
    """The error that ends the session before anything is measured."""
    from pytest_slmperf import redaction

    return pytest.UsageError(redaction.message(text))


def shown_url(place: str) -> str:
    """The place of the baselines without the password of its URL."""
    from pytest_slmperf import redaction

    return redaction.address(place)


# ``@pytest.mark.slmperf(...)``: keyword-only, checked against the table of settings, unknown keys refused.

NAME = "slmperf"


def check(kwargs: Mapping[str, Any], args: tuple[Any, ...], where: str) -> None:
    """Refuse positional arguments, unknown keys and wrong values. UsageError names the test, the key and the fix."""
    if args:
        raise usage_error(f"{where}: @pytest.mark.slmperf takes keywords only, for instance slmperf(rounds=5)")
    for key, value in kwargs.items():
        if key not in MARKER_KEYS:
            near = near_names(key, MARKER_KEYS, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise usage_error(
                f"{where}: @pytest.mark.slmperf has no key {key!r}; {hint}known keys: {', '.join(MARKER_KEYS)}"
            )
        kind = MARKER_KEYS[key].kind
        if not kind.accepts(value):
            raise usage_error(f"{where}: @pytest.mark.slmperf({key}=…) must be {kind.wanted}, not {value!r}")


def merged(item: pytest.Item) -> dict[str, Any]:
    """All slmperf marks of a test joined, the closest winning, each checked."""
    result: dict[str, Any] = {}
    for mark in item.iter_markers(NAME):
        check(mark.kwargs, mark.args, item.nodeid)
        for key, value in mark.kwargs.items():
            result.setdefault(key, value)
    return result
