"""What the tests of one pytest process share. Each part is built when it is first used, and closed with the session."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_slmperf.measuring.profiles import active_profile
from pytest_slmperf.pytest_plugin import options, settings
from pytest_slmperf.pytest_plugin.output_paths import state_dir
from pytest_slmperf.pytest_plugin.time_budget import TimeBudget

if TYPE_CHECKING:
    from pytest_slmperf.baselines.journal import Journal
    from pytest_slmperf.baselines.store import Store
    from pytest_slmperf.measuring.context import Lab
    from pytest_slmperf.measuring.noise import History, Noise
    from pytest_slmperf.model.result import FailedTest, Machine, Session


def now() -> str:
    """UTC in ISO 8601 with a Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class SessionContext:
    """The lab, the stores and the records of one pytest process with ``--slmperf``.

    In a worker of pytest-xdist, ``id`` is the controller's.
    """

    def __init__(self, config: pytest.Config) -> None:
        worker_input = getattr(config, "workerinput", {})  # pytest-xdist sets it in its workers only
        self.config = config
        self.is_worker = hasattr(config, "workerinput")
        self.pid = os.getpid()
        self.id: str = worker_input.get("slmperf_session_id") or f"{now().replace(':', '')}-{uuid.uuid4().hex[:6]}"
        self.started_at = now()
        started = time.monotonic()
        seconds = settings.time_budget(config, active_profile().gpu)
        self.budget = TimeBudget(started, None if seconds is None else started + seconds)
        self.notes: list[str] = []
        self.failed_tests: list[FailedTest] = []
        self._lab: Lab | None = None
        self._closing = ExitStack()

    @cached_property
    def state_dir(self) -> Path:
        return state_dir(self.config)

    @cached_property
    def record(self) -> Session:
        from pytest_slmperf.pytest_plugin.session_record import session_record

        return session_record(
            self.config,
            session_id=self.id,
            started_at=self.started_at,
            notes=self.notes,
            failed_tests=self.failed_tests,
        )

    @cached_property
    def machine(self) -> Machine:
        from pytest_slmperf.environment.machine import describe_machine

        return describe_machine()

    @cached_property
    def store(self) -> Store:
        from pytest_slmperf.baselines.open import open_store

        return open_store(options.value(self.config, "baselines"), options.folder(self.config, "baselines"))

    @cached_property
    def journal(self) -> Journal:
        from pytest_slmperf.baselines.journal import Journal

        return Journal(self.state_dir, self.record, self.machine)

    @property
    def lab(self) -> Lab:
        """Engines, meter and clock; the first use starts nothing but builds the pool."""
        if self._lab is None:
            from pytest_slmperf.pytest_plugin.build_lab import build_lab

            _ = self.machine  # described now: a GPU that is lost later cannot say anything of itself
            self._lab = build_lab(
                self.config,
                session_id=self.id,
                state_dir=self.state_dir,
                deadline=self.budget.deadline,
                notes=self.notes,
                closing=self._closing,
            )
        return self._lab

    @cached_property
    def noise(self) -> Noise:
        from pytest_slmperf.measuring.noise import Noise

        return Noise(self._stored_launches)

    def _stored_launches(self, fingerprint: str) -> History:
        """All launches of the baselines taken on this machine with this engine, by test and metric."""
        from pytest_slmperf.baselines.lookup import samples

        return {
            (baseline.id, name): samples(baseline, name)
            for baseline in self.store.all(options.value(self.config, "baseline"))
            if baseline.fingerprint == fingerprint
            for name in baseline.newest.metrics
        }

    def close(self) -> None:
        """Stop engines and meter. Idempotent; called on every way out, Ctrl-C included."""
        self._lab = None
        self._closing.close()


CONTEXT: pytest.StashKey[SessionContext] = pytest.StashKey()
