"""The NVML meter: joules of NVIDIA GPUs from the driver's total-energy counter."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

from pytest_slmperf.devices.gpus import Gpu
from pytest_slmperf.devices.nvml import Nvml, NvmlFailure, foreign_package
from pytest_slmperf.devices.selection import select
from pytest_slmperf.energy.base import EnergyMeter
from pytest_slmperf.energy.counter.calibration import HARDLY, Calibration, Profile, Stretch, calibrate, stretch_of
from pytest_slmperf.energy.counter.tick_schedule import REAL, Clock
from pytest_slmperf.energy.idle_power import mean_power
from pytest_slmperf.energy.meters.nvml_probe import GAIN, Ability, NvmlProbe, ability
from pytest_slmperf.energy.watch import CounterWatch

OFF = 0.1  # relative difference from which a tick counts as changed


class NvmlMeter(EnergyMeter):
    """Energy of the visible NVIDIA GPUs; does not raise if there is none.

    visible:    value of CUDA_VISIBLE_DEVICES; None: unset. The default reads the environment.
    state_dir:  folder of stored calibrations; None: nothing is stored.
    calibrated: False: the first watch does not measure the tick (about a second); ticks are learnt while watching.
    threaded:   False: time passes only inside calls (simulation with a clock of its own).
    """

    name = "nvml"
    FROM_ENVIRONMENT = "\0environment"

    def __init__(
        self,
        clock: Clock = REAL,
        *,
        visible: str | None = FROM_ENVIRONMENT,
        state_dir: Path | None = None,
        calibrated: bool = True,
        threaded: bool = True,
    ) -> None:
        self.available = False
        self.reason: str | None = None
        self.gap_s: float | None = None  # poll gap around a tick; None: as calibrated
        self._clock = clock
        self._threaded = threaded
        self._nvml: Nvml | None = None
        self._gpus: list[tuple[str, Gpu, Ability]] = []
        self._profile = Profile(state_dir)
        self._calibrated = calibrated
        self.calibrations: dict[str, Calibration] = {}
        self._driver: str | None = None
        self._package: str | None = None  # fault of the Python package
        wish = os.environ.get("CUDA_VISIBLE_DEVICES") if visible == self.FROM_ENVIRONMENT else visible
        try:
            self._nvml = Nvml()
        except ImportError as error:
            absent = isinstance(error, ModuleNotFoundError)
            why = "the package nvidia-ml-py is not installed (pip install nvidia-ml-py)" if absent else str(error)
            self.reason = foreign_package() or why
            return
        except NvmlFailure as error:
            self.reason = str(error)
            return
        self._driver = self._nvml.ask("nvmlSystemGetDriverVersion")
        self._package = foreign_package()
        self._open(self._nvml, wish)

    def _open(self, nvml: Nvml, wish: str | None) -> None:
        chosen = select(nvml, wish)
        if not chosen.gpus:
            self.reason = chosen.reason
            return
        names = [gpu.name for gpu in chosen.gpus]
        for gpu in chosen.gpus:
            name = gpu.name if names.count(gpu.name) == 1 else f"{gpu.name} [{gpu.index}]"
            self._gpus.append((name, gpu, ability(nvml, gpu)))
        unable = [f"{name}: {can.reason}" for name, _, can in self._gpus if can.source is None]
        self.available = len(unable) < len(self._gpus)  # a GPU that cannot be metered has the reason in its readings
        self.reason = None if self.available else "; ".join(unable)

    def devices(self) -> Sequence[dict[str, Any]]:
        """Facts per GPU, including GPUs that cannot be metered (``source`` None, with a ``reason``)."""
        return [
            {
                "name": name,
                "uuid": gpu.uuid,
                "index": gpu.index,
                "pci": gpu.pci,
                "driver": self._driver,
                "source": can.source,
                "scope": can.scope,
                "tick_s": self.calibrations[name].tick_s if name in self.calibrations else None,
                "gain": GAIN,
                "limit_w": can.limit_w,
                "missing": dict(can.missing),
                "reason": can.reason,
                "notes": [*gpu.notes, *self._notes(name)],
            }
            for name, gpu, can in self._gpus
        ]

    def only(self, entries: Sequence[str]) -> NvmlMeter:
        """This meter restricted to the GPUs that ``entries`` of CUDA_VISIBLE_DEVICES name; the whole meter closes it."""
        view = copy(self)
        chosen = [] if self._nvml is None else select(self._nvml, ",".join(entries)).gpus
        known = {gpu.index: (name, can) for name, gpu, can in self._gpus}
        view._gpus = []
        for gpu in chosen:
            if gpu.index in known and self._nvml is not None:
                name, can = known[gpu.index]
                view._gpus.append((name, gpu, ability(self._nvml, gpu) if gpu.mig else can))
        return view

    def calibrate(self) -> None:
        """Take each device's tick from the profile; measure unknown ticks, of all devices at once, in some seconds."""
        unknown = []
        for name, gpu, can in self._gpus:
            if name in self.calibrations or can.counter is None or self._nvml is None:
                continue
            kept = self._profile.get(gpu.uuid, self._driver)
            if kept is not None:
                self.calibrations[name] = kept
            else:
                unknown.append((name, gpu, can))
        if self._threaded and len(unknown) > 1:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(len(unknown), "slmperf-calibrate") as pool:
                results = list(pool.map(self._calibrated_one, unknown))
        else:
            results = [self._calibrated_one(device) for device in unknown]
        for (name, gpu, _), calibration in zip(unknown, results, strict=True):
            self.calibrations[name] = calibration
            self._profile.put(gpu.uuid, self._driver, calibration)

    def _calibrated_one(self, device: tuple[str, Gpu, Ability]) -> Calibration:
        return calibrate(partial(self._look, *device))

    def _look(self, name: str, gpu: Gpu, can: Ability, seconds: float, gap_s: float, ticks: int | None) -> Stretch:
        if self._nvml is None:
            return Stretch(None, None)
        probe = NvmlProbe(self._nvml, gpu, name, can, self._clock, None, gap_s)
        return stretch_of(probe.poll, probe.track, self._clock, seconds, gap_s, ticks)

    def _notes(self, name: str) -> list[str]:
        note = self.calibrations[name].note if name in self.calibrations else None
        return [text for text in (note, self._package) if text]

    def watch(self) -> CounterWatch:
        """Start to poll the GPUs. The first call calibrates."""
        if self._calibrated:
            self.calibrate()
        probes = []
        for name, gpu, can in self._gpus:
            if self._nvml is not None:
                calibration = self.calibrations.get(name) or Calibration(None, 0.001)
                gap_s = self.gap_s or calibration.gap_s
                probes.append(NvmlProbe(self._nvml, gpu, name, can, self._clock, calibration.tick_s, gap_s))
        return CounterWatch(probes, self._clock, threaded=self._threaded, closed=partial(self._learn, probes))

    def _learn(self, probes: Sequence[NvmlProbe]) -> None:
        """Store the ticks that a watch saw if they are new or contradict the stored ones."""
        for probe in probes:
            seen, known = probe.track.tick_s(), self.calibrations.get(probe.name)
            if known is None or seen is None:
                continue
            if known.tick_s is None or abs(seen - known.tick_s) > OFF * known.tick_s:
                note = None if known.note == HARDLY else known.note
                self.calibrations[probe.name] = learnt = Calibration(seen, known.gap_s, note)
                self._profile.put(probe.gpu.uuid, self._driver, learnt)

    def idle_power_w(self, seconds: float) -> float | None:
        return mean_power(self, seconds, self._clock)

    def close(self) -> None:
        if self._nvml is not None:
            self._nvml.close()
            self._nvml = None
        self.available, self.reason = False, self.reason or "the meter is closed"
