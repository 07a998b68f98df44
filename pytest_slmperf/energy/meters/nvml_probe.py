"""One watched NVIDIA GPU: its abilities, asked once, and the probe that polls its counter, power and throttling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_slmperf.devices import nvml as nvml_lib
from pytest_slmperf.devices.gpus import Gpu
from pytest_slmperf.devices.nvml import FieldReader, FieldValue, Nvml, NvmlFailure, words
from pytest_slmperf.energy.base import DeviceReading
from pytest_slmperf.energy.counter.power_samples import PowerTrack
from pytest_slmperf.energy.counter.tick_schedule import Clock, TickSchedule
from pytest_slmperf.energy.counter.track import CounterTrack, Window
from pytest_slmperf.energy.gpu_conditions import Surroundings
from pytest_slmperf.energy.watch import Probe

# The abilities of a GPU: what it can report of its energy, its power and its throttling.


@dataclass(slots=True)
class Ability:
    """The readings that a GPU supports. ``missing``: the reason for each reading that it does not support."""

    counter: str | None = None  # "field" or "call"
    power: tuple[int, int] | str | None = None  # (field, scope), or "call"
    averaging_s: float = 0.0
    scope: str = "gpu"
    limit_w: float | None = None  # the current limit
    most_w: float | None = None  # the highest limit that can be set; a lower cap allows bursts of some milliseconds
    throttle: tuple[int, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str | None:
        return "nvml-counter" if self.counter else "nvml-power" if self.power else None

    @property
    def reason(self) -> str | None:
        """Why the GPU has no energy reading; None if it has one."""
        if self.source:
            return None
        whys = dict.fromkeys(self.missing.values())  # usually the same for all
        which = {why: ", ".join(what for what in self.missing if self.missing[what] == why) for why in whys}
        return "; ".join(f"{what}: {why}" for why, what in which.items()) or "no energy counter and no power"


def ability(nvml: Nvml, gpu: Gpu) -> Ability:
    """Query the abilities of a GPU."""
    able = Ability()
    if gpu.closed is not None:
        able.missing["opening it"] = gpu.closed
        return able
    module = "GH200" in gpu.name or "GB200" in gpu.name
    if gpu.mig:
        able.scope = "parent gpu of a MIG slice"
    elif module:
        able.scope = "module"
    scope = nvml_lib.SCOPE_MODULE if module else nvml_lib.SCOPE_GPU
    wanted = [(nvml_lib.ENERGY, 0), (nvml_lib.POWER_INSTANT, scope), (nvml_lib.POWER_AVERAGE, scope)]
    wanted += [(number, 0) for number in nvml_lib.THROTTLE]
    try:
        values = nvml.fields(gpu.handle, wanted)
    except NvmlFailure as error:
        able.missing["field values"] = words(error.code)
        values = [FieldValue(None, error.code, 0.0) for _ in wanted]
    energy, instant, average, *throttle = values
    if energy.value is not None:
        able.counter = "field"
    else:
        able.counter = _by_call(nvml, gpu, "nvmlDeviceGetTotalEnergyConsumption", "energy counter", able)
    if instant.value is not None:
        able.power = (nvml_lib.POWER_INSTANT, scope)
    elif average.value is not None:
        able.missing["instant power"] = words(instant.code)
        able.power, able.averaging_s = (nvml_lib.POWER_AVERAGE, scope), 1.0
    else:
        able.power = _by_call(nvml, gpu, "nvmlDeviceGetPowerUsage", "power", able)
        able.averaging_s = 1.0
    able.throttle = tuple(
        number for number, value in zip(nvml_lib.THROTTLE, throttle, strict=True) if value.value is not None
    )
    if not able.throttle:
        able.missing["throttle counters"] = words(throttle[0].code)
    _limits(nvml, gpu, able)
    return able


def _limits(nvml: Nvml, gpu: Gpu, able: Ability) -> None:
    """The current limit, and the highest that can be set, or else the board's default limit.

    The current limit is not a ceiling: it may be a cap far below the power that the board draws for some milliseconds.
    """
    limit = nvml.ask("nvmlDeviceGetEnforcedPowerLimit", gpu.handle)
    able.limit_w = limit / 1000 if limit else None
    _, most = nvml.ask("nvmlDeviceGetPowerManagementLimitConstraints", gpu.handle) or (None, None)
    most = most or nvml.ask("nvmlDeviceGetPowerManagementDefaultLimit", gpu.handle)
    able.most_w = max(most, limit or 0) / 1000 if most else None


def _by_call(nvml: Nvml, gpu: Gpu, name: str, what: str, able: Ability) -> str | None:
    try:
        nvml.call(name, gpu.handle)
    except NvmlFailure as error:
        able.missing[what] = words(error.code)
        return None
    return "call"


GAIN = 0.05  # NVIDIA's sensors, as measured in public (arXiv 2312.02741)
COUNTER_UNIT_J = 0.001  # unit of the values; the steps of some boards are coarser
CEILING = 2.0  # × the highest limit that can be set: no board draws more over a poll gap or longer
POWER_GAP_S = 0.02  # between two power samples: the update period of the fastest known sensors
THROTTLE_GAP_S = 0.1
STUCK_S = 2.0  # twice the slowest known tick: a counter without a new value for this time has stopped
STUCK = "the energy counter stood still while the power sensor showed a load"


class NvmlProbe(Probe):
    """Polls one GPU's counter and power and reads windows from these polls."""

    track: CounterTrack

    def __init__(self, nvml: Nvml, gpu: Gpu, name: str, can: Ability, clock: Clock, tick_s: float | None, gap_s: float):
        self.name = name
        self.gpu = gpu
        self.can = can
        ceiling_w = can.most_w * CEILING if can.most_w else None
        self.track = CounterTrack(COUNTER_UNIT_J, ceiling_w, coarser=True)
        self.track.period_s = tick_s
        self.power = PowerTrack(can.averaging_s, ceiling_w)
        self.surroundings = Surroundings(nvml, gpu, clock)
        self.lost: tuple[float, int] | None = None  # (time, nvmlReturn) of the failure that ended polling
        self.last_failure: tuple[float, int] | None = None
        self.last_ok = float("-inf")
        self.first_ok: float | None = None
        self._nvml = nvml
        self._clock = clock
        self._known_tick_s = tick_s
        self._schedule = TickSchedule(tick_s, gap_s)
        # Polls around a tick read only the counter, since further fields would slow them down.
        counter = [(nvml_lib.ENERGY, 0)] if can.counter == "field" else []
        power = [can.power] if isinstance(can.power, tuple) else []
        self._ask_counter = FieldReader(nvml, gpu.handle, counter) if counter else None
        self._ask_both = FieldReader(nvml, gpu.handle, [*counter, *power]) if counter or power else None
        throttle = [(number, 0) for number in can.throttle]
        self._ask_throttle = FieldReader(nvml, gpu.handle, throttle) if throttle else None
        self._power_due = self._throttle_due = float("-inf")

    def poll(self) -> None:
        if self.lost is not None or self.can.source is None:
            return
        begun = self._clock.now()
        with_power = begun >= self._power_due
        ask = self._ask_both if with_power else self._ask_counter
        try:
            values = ask() if ask is not None else []
            energy = self._energy(values)
            ended = self._clock.now()
            if with_power:
                self._power_due = ended + POWER_GAP_S
                self._sample(values, begun, ended)
            if ended >= self._throttle_due:
                self._look(ended)
        except NvmlFailure as error:
            self._failed(begun, error.code)
            return
        self.last_ok = ended
        if self.first_ok is None:
            self.first_ok = ended
        if energy is not None and self.track.add(begun, ended, energy):
            self._follow(begun)

    def _failed(self, t: float, code: int) -> None:
        self.last_failure = (t, code)
        if code in nvml_lib.FATAL:
            self.lost = (t, code)

    def _look(self, now: float) -> None:
        """Read the throttle counters, and from time to time the conditions that change slowly."""
        self._throttle_due = now + THROTTLE_GAP_S
        values = self._ask_throttle() if self._ask_throttle is not None else []
        counted = zip(self.can.throttle, values, strict=True)
        self.surroundings.look(
            now, {nvml_lib.THROTTLE[number]: int(value.value) for number, value in counted if value.value is not None}
        )

    def _follow(self, begun: float) -> None:
        """Adjust the schedule to the drift of the ticks."""
        epoch = self.track.current
        k = len(epoch.value) - 1
        if not k:
            return
        if self._schedule.tick_s is None or k % 8 == 0:
            self._schedule.tick_s = self.track.tick_s() or self._schedule.tick_s
        self._schedule.saw(epoch.tick_at(k), epoch.blur(k), begun)
        self.track.period_s = self._schedule.tick_s

    def _energy(self, values: list[FieldValue]) -> float | None:
        if self.can.counter is None:
            return None
        if self.can.counter == "call":
            return float(self._nvml.call("nvmlDeviceGetTotalEnergyConsumption", self.gpu.handle)) / 1000
        value = values[0]
        if value.value is None:
            raise NvmlFailure(value.code)
        return value.value / 1000

    def _sample(self, values: list[FieldValue], begun: float, ended: float) -> None:
        """Record the power, if it could be read."""
        t = (begun + ended) / 2
        milliwatts: float | None = None
        if isinstance(self.can.power, tuple):
            milliwatts = values[-1].value
            if values[-1].wall_s:  # the driver's time stamp, converted to the monotonic clock, if it is plausible
                stamped = values[-1].wall_s - self._clock.wall() + self._clock.now()
                t = stamped if t - 1.0 <= stamped <= ended else t
        elif self.can.power == "call":
            milliwatts = self._nvml.ask("nvmlDeviceGetPowerUsage", self.gpu.handle)
        if milliwatts is not None:
            self.power.add(t, milliwatts / 1000)

    def next_after(self, now: float) -> float:
        if self.lost is not None or self.can.source is None:
            return now + 1.0
        if self.can.counter is None:
            return now + 0.02
        return self._schedule.next_after(now)

    def settled(self, t: float) -> bool:
        if self.lost is not None or self.can.source is None:
            return True
        if self.can.counter is None:
            return self.power.updated_after(t)
        # The witness needs a sensor update after t, but a sensor that never updates must not delay the reading.
        witness = self.power.update_s() is None or self.power.updated_after(t)
        return self.track.covers(t) and len(self.track.current.value) > 1 and witness

    @property
    def gap_s(self) -> float:
        """Time between two polls around a tick, s."""
        return self._schedule.gap_s

    @property
    def tick_s(self) -> float | None:
        return self.track.tick_s() or self._known_tick_s

    def watts(self) -> tuple[list[float], list[float]]:
        if self.power.t:
            return list(self.power.t), list(self.power.w)
        return self.track.watts()

    def details(self, t_start: float, t_end: float) -> dict[str, Any]:
        """Observations in a window. Reads the throttle counters first unless they were read after its end."""
        if self.lost is None and self.can.source is not None and self.surroundings.last < t_end:
            now = self._clock.now()
            try:
                self._look(now)
            except NvmlFailure as error:
                self._failed(now, error.code)
        return self.surroundings.detail(t_start, t_end)

    def ticks_inside(self, t_start: float, t_end: float, period_s: float | None = None) -> tuple[float, float] | None:
        return self.track.ticks_inside(t_start, t_end, period_s)

    def reading(self, windows: Sequence[tuple[float, float]]) -> DeviceReading:
        t_start, t_end = windows[0][0], windows[-1][1]
        if self.can.power and not (self.power.t and self.power.t[-1] >= t_end):
            self._power_due = float("-inf")  # the power is polled less often than the counter
            self.poll()
        counter = self.track.windows(windows) if self.can.counter else None
        integral = self.power.windows(windows) if self.can.power else None
        stuck = self._stuck(counter, integral)
        main = (None if stuck else counter) or integral or Window(None, None, self.can.reason)
        main = self._unless_lost(main, t_start, t_end)
        detail = self.details(t_start, t_end)
        warnings = list(self.gpu.notes)
        if counter is not None and not stuck and integral is not None and integral.joules is not None:
            detail["witness"] = {"source": "nvml-power", "joules": integral.joules, "bound_j": integral.bound_j}
            warnings += disagreement(main, integral)
        source = "nvml-power" if stuck else self.can.source
        if source == "nvml-power":
            why = STUCK if stuck else "no energy counter"
            warnings.append(f"{why}: power samples integrated; a burst between two samples is in no bound")
        if self.gpu.mig:
            warnings.append("a MIG slice has no energy of its own: this is the whole GPU, other slices included")
        if self.can.missing:
            detail["missing"] = dict(self.can.missing)
        return DeviceReading(
            name=self.name,
            uuid=self.gpu.uuid,
            source=source or "nvml",
            scope=self.can.scope,
            joules=main.joules,
            bound_j=main.bound_j,
            window_s=sum(b - a for a, b in windows),
            tick_s=self.tick_s,
            gain=GAIN,
            reason=main.reason,
            warnings=tuple(warnings),
            detail=detail,
        )

    def _stuck(self, counter: Window | None, integral: Window | None) -> bool:
        """True if the counter has no reading because it has stopped, and the power samples have one."""
        if counter is None or counter.joules is not None or integral is None or not integral.joules:
            return False
        seen = self.track.current.seen
        return bool(seen) and self.last_ok - seen[-1] >= STUCK_S

    def _unless_lost(self, window: Window, t_start: float, t_end: float) -> Window:
        """The window, or no reading if the device stopped answering before its end."""
        if self.lost is not None and t_end >= self.last_ok:
            since = self.lost[0] - t_start
            return Window(None, None, f"{words(self.lost[1])}, {abs(since):.1f} s {_side(since)} the window")
        failing = self.last_failure is not None and self.last_failure[0] > self.last_ok
        if failing and t_end > self.last_ok and self.last_failure is not None:
            return Window(None, None, f"the device stopped answering: {words(self.last_failure[1])}")
        return window


def _side(seconds: float) -> str:
    return "into" if seconds >= 0 else "before"


def disagreement(main: Window, witness: Window) -> list[str]:
    """A warning if counter and power integral differ by more than the sum of their bounds."""
    if main.joules is None or main.bound_j is None or witness.joules is None or witness.bound_j is None:
        return []
    apart = abs(main.joules - witness.joules)
    if apart <= main.bound_j + witness.bound_j:
        return []
    return [
        f"energy counter {main.joules:.1f} ± {main.bound_j:.1f} J and power samples {witness.joules:.1f} ± "
        f"{witness.bound_j:.1f} J disagree by {apart:.1f} J: the sensor misses part of the load, or one of them is wrong"
    ]
