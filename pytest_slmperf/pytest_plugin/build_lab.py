"""Builds what a session measures with: engine pool, meter, progress display. Each part is closed by the session's stack."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path

import pytest

from pytest_slmperf.energy.base import EnergyMeter
from pytest_slmperf.energy.registry import choose
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.registry import Registry
from pytest_slmperf.measuring.bare_idle import BareIdle
from pytest_slmperf.measuring.context import Lab, Reporter, Silent
from pytest_slmperf.pytest_plugin import added_by_plugins, options


def build_lab(
    config: pytest.Config,
    *,
    session_id: str,
    state_dir: Path,
    deadline: float | None,
    notes: list[str],
    closing: ExitStack,
) -> Lab:
    """The session's lab; nothing is started yet.

    ``closing`` ends its parts. A meter that fails when it is closed is written into ``notes``.
    """
    registry = Registry(added_by_plugins.engine_adapters(config))
    meter = choose(added_by_plugins.energy_meters(config), options.value(config, "meter"))
    asked_for = options.value(config, "meter")
    if asked_for not in (None, "none") and not meter.available:
        notes.append(f"--slmperf-meter {asked_for} measures nothing: {meter.reason}")
    bare_idle = BareIdle(meter)
    progress = progress_display(config)
    pool = EnginePool(
        registry,
        state_dir / "logs",
        lambda phrase: progress.update("", phrase),
        start_timeout_s=options.value(config, "start-timeout"),
        before_start=bare_idle.before_start,
    )
    closing.callback(pool.close)
    closing.callback(_close_meter, meter, notes)
    closing.callback(progress.clear)
    return Lab(
        registry=registry,
        pool=pool,
        meter=meter,
        bare_idle=bare_idle,
        state_dir=state_dir,
        session_id=session_id,
        deadline=deadline,
        progress=progress,
        annotate=partial(added_by_plugins.annotate, config),
    )


def _close_meter(meter: EnergyMeter, notes: list[str]) -> None:
    try:
        meter.close()
    except Exception as error:  # another package's meter: what was measured must still be written
        notes.append(f"the meter {meter.name} failed when it was closed: {type(error).__name__}: {error}")


def progress_display(config: pytest.Config) -> Reporter:
    """Live progress on the terminal; silent under -q, in xdist workers and where pytest has no terminal."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or hasattr(config, "workerinput") or config.get_verbosity() < 0:
        return Silent()
    from pytest_slmperf.reports.terminal.progress import Progress

    writer = terminal._tw
    capture = config.pluginmanager.get_plugin("capturemanager")
    uncaptured = capture.global_and_fixture_disabled if capture else nullcontext
    with uncaptured():  # while output is captured, a terminal does not look like one
        live = writer.hasmarkup and writer._file.isatty()
    return Progress(
        writer._file,
        live,
        config.get_verbosity(),
        width=writer.fullwidth,
        column=lambda: int(writer.width_of_current_line),
        uncaptured=uncaptured,
    )
