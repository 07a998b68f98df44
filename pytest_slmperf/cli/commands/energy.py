"""``slmperf energy -- COMMAND``: the joules of any command, with their bound."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from pytest_slmperf.cli import output
from pytest_slmperf.errors import InvalidInput, SlmperfError

if TYPE_CHECKING:
    from pytest_slmperf.energy.base import DeviceReading, EnergyMeter, EnergyReading

DESCRIPTION = """\
Runs a command and prints the gross joules that each device drew meanwhile, how far the figure can be off, and where it
comes from. Everything else on the device is in the figure: it measures the device, not the command.
"""
EPILOG = """\
examples:
  slmperf energy -- python train.py
  slmperf energy --json --price-per-kwh 0.30 -- ./run.sh

exit codes: those of COMMAND, 128 + n where signal n ended it (SIGTERM and SIGHUP are passed on to it); 127 if there is
none of that name, 126 if it cannot be started
"""


class NotStarted(int):
    """Exit code of a command that did not start, which distinguishes it from a command's own exit code."""


BOUNDS = (  # of a device, from the widest to the narrowest
    ("bound_percent", "of any window, at worst"),
    ("command_percent", "of a command, begun at a tick, at worst"),
    ("matched_percent", "of rounds, matched to ticks"),
)
NOT_STARTED, NOT_FOUND = NotStarted(126), NotStarted(127)


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "energy", help="joules of any command, with their error bound", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--json", action="store_true", help="JSON on standard output; the command's goes to standard error"
    )
    parser.add_argument("--meter", metavar="NAME", help="nvml, rapl, amd, or another package's; the first that works")
    parser.add_argument("--price-per-kwh", type=_positive, metavar="PRICE", help="your price of a kWh: shows the cost")
    parser.add_argument("--carbon-g-per-kwh", type=_positive, metavar="GRAMS", help="your grid's gCO2 per kWh")
    parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command and its arguments")


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def run(args: argparse.Namespace) -> int:
    from pytest_slmperf.energy.base import EnergyReading
    from pytest_slmperf.energy.registry import choose
    from pytest_slmperf.energy.round_energy import costs

    argv = args.argv[1:] if args.argv[:1] == ["--"] else args.argv
    if not argv:
        raise InvalidInput("name the command after --, as in: slmperf energy -- python train.py")
    meter = choose(_meters(), args.meter, "--meter")
    try:
        reading, between, code = measure(meter, argv, quiet=args.json)
    finally:
        meter.close()
    if isinstance(code, NotStarted):  # the reading belongs to no command
        reading, between = EnergyReading((), reading.t_start, reading.t_end, "the command was not started"), None
    outcome = result(reading, code, between)
    given = costs(reading.joules, None, args.price_per_kwh, args.carbon_g_per_kwh)
    if given is not None:
        outcome["cost"] = given
    if args.json:
        output.print_json(outcome)
    else:
        show(outcome)
    return code


def _meters() -> list[EnergyMeter]:
    """The meters of this package and of installed plugins; only this package's if pytest cannot load a plugin."""
    from pytest_slmperf.energy.counter.calibration import user_folder
    from pytest_slmperf.energy.registry import builtin_meters

    try:
        return output.hooked("pytest_slmperf_meters")
    except SlmperfError as error:
        output.complain(f"slmperf energy: only the built-in meters are tried: {error}")
        return builtin_meters(user_folder())


def measure(
    meter: EnergyMeter, argv: list[str], quiet: bool = False
) -> tuple[EnergyReading, EnergyReading | None, int]:
    """Run the command under the meter: its reading, the reading between the ticks around it, and its exit code.

    The command starts right after a tick of the counter, if there are ticks, which halves the bound: the meter can choose
    the start, but not the end. The exit code is 128 + n if signal n ended it.
    ``quiet``: its standard output goes to standard error, so that this process prints only JSON.
    """
    out = sys.stderr.fileno() if quiet else None
    with meter.watch() as watch, SignalsTo() as signals:
        sys.stdout.flush()
        tick = watch.next_tick()
        begun = time.monotonic() if tick is None else tick
        code = _run(argv, out, signals)
        ended = time.monotonic()
        return watch.reading(begun, ended), watch.around(begun, ended), code if code >= 0 else 128 - code


def _run(argv: list[str], out: int | None, signals: SignalsTo) -> int:
    """Exit code of the command, negative if a signal ended it. After a signal that precedes the start, it does not run."""
    if signals.early is not None:
        return -signals.early
    try:
        process = subprocess.Popen(argv, stdout=out, preexec_fn=signals.restore)
    except OSError as error:
        output.complain(f"slmperf energy: {argv[0]}: {error.strerror or error}")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_STARTED
    signals.pass_to(process)
    return process.wait()


class SignalsTo:
    """Within its block, signals that would end this process end the command instead, so that its energy is still reported.

    SIGTERM and SIGHUP reach only this process, which passes them on.  Ctrl-C reaches both, and only the command reacts.
    """

    PASSED = (signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.early: int | None = None  # a signal that came before the command started
        self._process: subprocess.Popen[bytes] | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> SignalsTo:
        self._previous[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
        for signum in self.PASSED:
            if signal.getsignal(signum) is not signal.SIG_IGN:  # under nohup, a hang-up ends neither process
                self._previous[signum] = signal.signal(signum, self._pass_on)
        return self

    def __exit__(self, *exc: object) -> None:
        for signum, previous in self._previous.items():
            signal.signal(signum, previous)

    def _pass_on(self, number: int, frame: object) -> None:
        if self._process is None:
            self.early = self.early or number
        else:
            self._process.send_signal(number)  # does nothing if the process has ended

    def pass_to(self, process: subprocess.Popen[bytes]) -> None:
        """Pass signals to ``process`` from now on, including those that came during its start."""
        self._process = process
        if self.early is not None:
            process.send_signal(self.early)

    def restore(self) -> None:
        """In the command's process, before it begins: restore the handling of signals that this process had."""
        for signum in self._previous:
            signal.signal(signum, signal.SIG_DFL)


def result(reading: EnergyReading, code: int, between: EnergyReading | None = None) -> dict[str, Any]:
    """The output of ``--json``. ``joules``: null, with a ``reason``, if a device could not be read.

    ``between_ticks``: joules of the somewhat longer window from the tick before the command to the tick after it, whose
    bound is small; null without such ticks.
    """
    ticks = [_between(device) for device in between.devices] if between is not None else [None] * len(reading.devices)
    devices: list[dict[str, Any]] = [
        {
            "name": device.name,
            "uuid": device.uuid,
            "source": device.source,
            "scope": device.scope,
            "joules": device.joules,
            "bound_j": device.bound_j,
            "window_s": device.window_s,
            "tick_s": device.tick_s,
            "gain": device.gain,
            "reason": device.reason,
            "warnings": [*device.warnings, *too_short(device)],
            "between_ticks": matched,
        }
        for device, matched in zip(reading.devices, ticks, strict=True)
    ]
    return {"devices": devices, "returncode": int(code), "reason": reading.reason}


def _between(device: DeviceReading) -> dict[str, float] | None:
    if device.joules is None or device.bound_j is None:
        return None
    return {"joules": device.joules, "bound_j": device.bound_j, "window_s": device.window_s}


def too_short(device: DeviceReading) -> list[str]:
    """A sentence if the bound is as large as the reading, which is then only an upper limit."""
    if device.joules is None or device.bound_j is None or device.bound_j < device.joules:
        return []
    tick = f" (tick {device.tick_s * 1e3:.0f} ms)" if device.tick_s else ""
    return [f"{device.window_s:.3g} s are too short for this source{tick}: the bound is 100 % or more; measure longer"]


def show(outcome: dict[str, Any]) -> None:
    """Print the outcome for people."""
    lines = []
    for device in outcome["devices"]:
        if device["joules"] is None:
            lines.append(f"{device['name']}: unavailable: {device['reason']}")
            continue
        tick = f", tick {device['tick_s'] * 1e3:.0f} ms" if device["tick_s"] else ""
        notes = [f"  {text}" for text in device["warnings"]]
        if ticks := device["between_ticks"]:
            between = f"{ticks['joules']:.1f} ± {ticks['bound_j']:.1f} J in {ticks['window_s']:.2f} s"
            more = ticks["window_s"] - device["window_s"]
            notes.insert(0, f"  and with the {more:.2f} s around the command, from tick to tick: {between}")
        if device["bound_j"] is not None and device["bound_j"] >= device["joules"]:
            most = device["joules"] + device["bound_j"]
            lines.append(f"{device['name']} ({device['scope']}): not more than {most:.1f} J{tick}")
            lines += notes
            continue
        lines.append(
            f"{device['name']} ({device['scope']}): {device['joules']:.1f} ± {device['bound_j']:.1f} J in "
            f"{device['window_s']:.2f} s, mean {device['joules'] / device['window_s']:.1f} W ({device['source']}{tick})"
        )
        lines += notes
    if not outcome["devices"]:
        lines.append(f"energy unavailable: {outcome['reason']}")
    cost = outcome.get("cost", {})
    if "cost" in cost:
        lines.append(f"cost {cost['cost']:.6g} at {cost['price_per_kwh']:g} a kWh")
    if "carbon_g" in cost:
        lines.append(f"emissions {cost['carbon_g']:.6g} gCO2 at {cost['carbon_g_per_kwh']:g} g a kWh")
    for line in lines:
        output.say(line)


def doctor_section(meter: EnergyMeter, seconds: float = 1.0) -> list[dict[str, Any]]:
    """Per device of a meter: its facts, idle power, and the bound of a reading of 1, 5 and 10 s at that power.

    bound_percent:   the worst of windows at any phase of the tick, up to twice tick ÷ window
    command_percent: the worst of windows that begin at a tick, as for a command under ``slmperf energy``
    matched_percent: of windows between ticks, as for rounds
    """
    from pytest_slmperf.energy.idle_power import rest

    if not meter.available:
        return [dict(device) for device in meter.devices()]
    at_rest = rest(meter, seconds)
    reading, between = at_rest.reading, at_rest.between
    matched = {device.name: device for device in between.devices} if between is not None else {}
    rows = []
    facts = {(device.get("name"), device.get("uuid")): device for device in meter.devices()}
    for device in reading.devices:
        row = dict(facts.get((device.name, device.uuid), {"name": device.name, "uuid": device.uuid}))
        row["tick_s"] = device.tick_s if device.tick_s is not None else row.get("tick_s")
        row["reason"] = device.reason
        if device.joules is not None and device.bound_j is not None and device.joules > 0:
            watts = device.joules / device.window_s
            row["idle_w"] = watts
            row["bound_percent"] = _percents(at_rest.worst_j.get(device.name, device.bound_j), watts)
            if device.name in at_rest.begun_at_tick_j:
                row["command_percent"] = _percents(at_rest.begun_at_tick_j[device.name], watts)
            sharp = matched.get(device.name)
            if sharp is not None and sharp.joules and sharp.bound_j is not None:
                row["idle_w"] = sharp.joules / sharp.window_s
                row["matched_percent"] = _percents(sharp.bound_j, watts)
        others = device.detail.get("other_gpu_processes")
        if others is not None:
            row["processes"] = len(others) + int(device.detail.get("unplaced_gpu_processes", 0))
        rows.append(row)
    return rows


def _percents(bound_j: float, watts: float) -> dict[str, float]:
    return {f"{s} s": 100 * bound_j / (watts * s) for s in (1, 5, 10)}


def doctor_rows(meter: EnergyMeter) -> list[dict[str, Any]]:
    """``doctor_section`` of the readable devices, and rows for the others, in the meter's order.

    The readable devices are read separately: an unreadable one would leave none of them a window between ticks.
    """
    devices = list(meter.devices())
    shut = [device for device in devices if device.get("source") is None and device.get("reason")]
    able = meter.only([str(device["index"]) for device in devices if device not in shut]) if shut else None
    if not meter.available or able is None:
        return doctor_section(meter)
    return sorted([*doctor_section(able), *map(dict, shut)], key=lambda row: int(row["index"]))


def _three(value: float) -> str:
    """Three significant digits without an exponent."""
    return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"


def doctor_lines(rows: list[dict[str, Any]]) -> list[str]:
    """``doctor_section`` in words: one line per device, followed by the readings that it lacks."""
    from pytest_slmperf.util.formatting import share

    lines = []
    for row in rows:
        if row.get("reason"):
            lines.append(f"{row.get('name')}: {row['reason']}")
            continue
        line = f"{row.get('name')}: {row.get('source')}, {row.get('scope')}"
        line += f", tick {_three(row['tick_s'] * 1e3)} ms" if row.get("tick_s") else ""
        if "idle_w" in row:
            line += f", idle {row['idle_w']:.1f} W"
            line += f" ({row['processes']} processes on it)" if row.get("processes") else ""
        lines.append(line)
        for key, what in BOUNDS:
            if key in row:
                lines.append(f"  bound {what}: " + ", ".join(f"{share(v / 100)} % at {s}" for s, v in row[key].items()))
        lines += [f"  no {what}: {why}" for what, why in (row.get("missing") or {}).items()]
        lines += [f"  {note}" for note in row.get("notes") or []]
    return lines
