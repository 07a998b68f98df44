"""Fake NVIDIA GPUs for tests: builds the library, writes its file, knows the truth.

The file holds one word and its numbers a line; times are seconds after ``zero`` (CLOCK_MONOTONIC ns, or the virtual
clock's).  Outside a GPU: ``zero NS``, ``virtual PATH`` (an int64 of ns that is the clock), ``driver TEXT``, ``fail …``.
For a GPU, after ``gpu``: ``name``, ``uuid``, ``tick S``, ``phase S``, ``jitter S``, ``update S`` and ``avg S`` (power
sensor), ``avg_long S``, ``limit W``, ``default_limit W``, ``offset J`` (what the counter showed at zero),
``unit J`` (the counter's step), ``temp C``, ``util PERCENT``, ``step T W`` (power from T on),
``sm_clock T MHZ``, ``slice_gib N`` (memory of each slice),
``throttle FIELD FROM TO SHARE``, ``reset T``, ``slice MIG-UUID``, ``process PID``, ``perturb GAP W`` (polls closer than
GAP make the counter count W more), ``fail SYMBOL CODE after|at N [TIMES]`` (SYMBOL also ``field:83`` and ``*``).
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import mmap
import os
import struct
import subprocess
import tempfile
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

from pytest_slmperf.energy.counter.tick_schedule import Clock

SOURCE = Path(__file__).with_name("fake_nvml.c")
MOST_STEPS = 4096
DRIVER = "570.00.fake"  # of the library, unless a file says another


def library() -> Path:
    """The built libnvidia-ml.so.1, made once per version of its source."""
    key = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"slmperf-fake-nvml-{os.getuid()}-{key}"
    path = folder / "libnvidia-ml.so.1"
    if not path.exists():
        folder.mkdir(exist_ok=True)
        part = folder / f"building.{os.getpid()}"
        flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1"]
        subprocess.run(["gcc", *flags, "-o", part, SOURCE, "-lm", "-lpthread"], check=True)
        part.replace(path)
    return path


@dataclass
class FakeGpu:
    """One GPU: ``steps`` are (seconds after zero, W); before the first step its power holds too."""

    steps: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 100.0)])
    name: str = "Fake H100 80GB HBM3"
    uuid: str | None = None
    tick: float = 0.1
    phase: float = 0.0
    words: dict[str, object] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def text(self) -> str:
        head = ["gpu", f"name {self.name}", f"tick {self.tick!r}", f"phase {self.phase!r}"]
        if self.uuid:
            head.append(f"uuid {self.uuid}")
        head += [f"{word} {value}" for word, value in self.words.items()]
        return "\n".join([*head, *(f"step {t!r} {w!r}" for t, w in self.steps), *self.lines])

    def joules(self, a: float, b: float) -> float:
        """True energy between two moments, seconds after zero."""
        starts = [t for t, _ in self.steps]
        total, t = 0.0, a
        while t < b:
            k = max(0, bisect_right(starts, t) - 1)
            end = min(b, next((s for s in starts if s > t), b))
            total += self.steps[k][1] * (end - t)
            t = end
        return total

    def ticks_around(self, t: float) -> tuple[float, float]:
        """The last tick of the counter at or before t and the first one after it, seconds after zero."""
        jitter = float(str(self.words.get("jitter", 0.0)))
        k = math.floor((t - self.phase) / self.tick) + 1
        while (before := self.phase + k * self.tick + jitter * _wobble(k)) > t:
            k -= 1
        return before, self.phase + (k + 1) * self.tick + jitter * _wobble(k + 1)


def _wobble(k: int) -> float:
    """As in the library: in −1 … 1, the same for the same tick."""
    whole = 2**64
    x = k * 0x9E3779B97F4A7C15 % whole
    x ^= x >> 31
    x = x * 0xBF58476D1CE4E5B9 % whole
    x ^= x >> 29
    return (x >> 11) / 2**52 - 1.0


class FakeNvml:
    """The file of a set of GPUs, in ``folder``; ``virtual``: time passes only by ``clock.sleep`` or ``advance``."""

    def __init__(
        self, folder: Path, gpus: list[FakeGpu], *, virtual: bool = False, lines: tuple[str, ...] = ()
    ) -> None:
        self.gpus = gpus
        self.lines = list(lines)
        self.path = folder / "gpus.txt"
        self.zero_ns = 1_000_000_000_000 if virtual else time.monotonic_ns()
        self._written = 0
        self._ticks: mmap.mmap | None = None
        self._clock_path = folder / "clock"
        if virtual:
            self._clock_path.write_bytes(struct.pack("q", self.zero_ns))
            with self._clock_path.open("r+b") as file:
                self._ticks = mmap.mmap(file.fileno(), 8)
        self.write()

    def write(self) -> None:
        """Put the present state of ``gpus`` in force, for every process that uses the library."""
        self._written += 1
        assert all(len(gpu.steps) <= MOST_STEPS for gpu in self.gpus), "the library keeps no more steps of power"
        # The library reads the file again when its inode, size or time changed: an ever other size makes that sure.
        head = [f"zero {self.zero_ns}", "#" + "." * (self._written % 400), *self.lines]
        if self._ticks is not None:
            head.append(f"virtual {self._clock_path}")
        part = self.path.with_suffix(".part")
        part.write_text("\n".join([*head, *(gpu.text() for gpu in self.gpus)]) + "\n")
        part.replace(self.path)

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to see these GPUs."""
        return {"LD_LIBRARY_PATH": str(library().parent), "SLMPERF_FAKE_NVML": str(self.path)}

    @property
    def clock(self) -> Clock:
        if self._ticks is None:
            return Clock()
        return Clock(now=self.now, wall=self.now, sleep=self.advance)

    def now(self) -> float:
        if self._ticks is None:
            return time.monotonic()
        return struct.unpack("q", self._ticks[:8])[0] / 1e9

    def advance(self, seconds: float) -> None:
        assert self._ticks is not None
        now = struct.unpack("q", self._ticks[:8])[0]
        self._ticks[:8] = struct.pack("q", now + max(1, round(seconds * 1e9)))

    @property
    def zero(self) -> float:
        return self.zero_ns / 1e9

    def joules(self, t_start: float, t_end: float, gpu: int = 0) -> float:
        """True energy between two moments of the clock, s."""
        return self.gpus[gpu].joules(t_start - self.zero, t_end - self.zero)

    def close(self) -> None:
        if self._ticks is not None:
            self._ticks.close()


def lend(monkeypatch, fake: FakeNvml) -> None:
    """Let the real nvidia-ml-py of this process talk to the fake library until the test ends."""
    import pynvml

    monkeypatch.setenv("SLMPERF_FAKE_NVML", str(fake.path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(library())))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
