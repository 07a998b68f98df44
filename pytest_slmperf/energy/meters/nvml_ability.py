"""What one NVIDIA GPU can report of its energy, its power and its throttling: asked once, when it is opened."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_slmperf.devices import nvml as nvml_lib
from pytest_slmperf.devices.gpus import Gpu
from pytest_slmperf.devices.nvml import FieldValue, Nvml, NvmlFailure, words


@dataclass(slots=True)
class Ability:
    """What one GPU can tell, found by asking once; ``missing`` holds the reason for each thing that it cannot."""

    counter: str | None = None  # "field" or "call"
    power: tuple[int, int] | str | None = None  # (field, scope), or "call"
    averaging_s: float = 0.0
    scope: str = "gpu"
    limit_w: float | None = None  # in force
    most_w: float | None = None  # it can be set to no more: a cap below it does not stop a burst of some milliseconds
    throttle: tuple[int, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str | None:
        return "nvml-counter" if self.counter else "nvml-power" if self.power else None

    @property
    def reason(self) -> str | None:
        """Why no joules can be had; None if they can."""
        if self.source:
            return None
        whys = dict.fromkeys(self.missing.values())  # mostly one for all
        which = {why: ", ".join(what for what in self.missing if self.missing[what] == why) for why in whys}
        return "; ".join(f"{what}: {why}" for why, what in which.items()) or "no energy counter and no power"


def ability(nvml: Nvml, gpu: Gpu) -> Ability:
    """Ask a GPU what it can tell."""
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
    """The limit in force, and the highest that can be set, or where that is not told the one that the board ships with.

    The limit in force alone is no ceiling: it may be a cap far below what the board draws for some milliseconds.
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
