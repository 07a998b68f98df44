"""Every setting, once: its name, kind of value, default, help text, and where it may be given.

The command line's options, their ini keys, the marker's keys, the checks of all three and the reference pages are made from
this table. Precedence: marker > command line > ini > default.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pytest_slmperf.model.defaults import ALPHA, LIMIT, TOLERANCE
from pytest_slmperf.pytest_plugin import setting_kinds as kinds
from pytest_slmperf.pytest_plugin.setting_kinds import Kind


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
        """The default where neither profile nor device decides it, else None."""
        return None if isinstance(self.default, (ByProfile, ByDevice)) else self.default

    @property
    def shown_default(self) -> str:
        """The default as help and reference show it; empty where there is none."""
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
    Setting("launches", kinds.WHOLE, "N", "engine launches a test starts with; more follow while its verdict is open",
            "both", ByProfile(quick=2, full=4)),
    Setting("rounds", kinds.WHOLE, "N", "measured rounds in each launch", "both", ByProfile(quick=5, full=10)),
    Setting("max-launches", kinds.WHOLE, "N", "most launches that one test may use", "both", ByProfile(quick=6, full=16)),
    # On a GPU an engine takes ten times as long to start: kernels are compiled, graphs captured.
    Setting("max-time", kinds.SECONDS, "TIME", "time budget of the whole session", "session",
            ByProfile(quick=ByDevice(cpu=215.0, gpu=900.0), full=None),
            "215s in the quick profile, 900s where a GPU serves, none in the full profile"),
    Setting("max-time", kinds.SECONDS, "SECONDS", "longest time this test may measure", "test"),
    Setting("start-timeout", kinds.SECONDS, "TIME", "longest time an engine may take to start", default=900.0),
    Setting("round-timeout", kinds.SECONDS, "TIME", "longest time a single round may take", default=300.0),
    # --- what it is compared with
    Setting("baselines", kinds.TEXT, "DIR|URL", "where baselines are kept", default="baselines"),
    Setting("baseline", kinds.TEXT, "NAME", "name of the baseline to compare with", default="main"),
    Setting("save", kinds.TEXT, "NAME", "also store this session's results under that baseline name"),
    Setting("reason", kinds.TEXT, "TEXT", "why the baseline is changed; recorded in it (with --slmperf-approve or "
            "--slmperf-save)"),
    Setting("across", kinds.TEXT, "PART,…", "compare although these parts of the machine's identity changed: driver, gpus, "
            "cpu, cores", many=True),
    Setting("against", kinds.TEXT, "SPEC", "duet: measure a second side interleaved: python=PATH, engine.KEY=VALUE,… or "
            "endpoint=URL"),
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
