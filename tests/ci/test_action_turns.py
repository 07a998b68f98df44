"""Jobs that store baselines in one branch at once: each gets its turn."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def approve(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The step's own file, on a clock that only its pauses move."""
    monkeypatch.syspath_prepend(str(ROOT / ".github/action"))
    for name in ("baselines", "github"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("approve_step", ROOT / ".github/action/approve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_forty_jobs_that_begin_together_all_store(approve: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A try takes two seconds, and a push fails where another job pushed meanwhile: simulated, job by job."""
    now = [0.0]
    monkeypatch.setattr(approve.time, "monotonic", lambda: now[0])
    pauses: list[float] = []
    monkeypatch.setattr(approve.time, "sleep", pauses.append)

    jobs = {number: approve.turns() for number in range(40)}
    tries = {number: (0.0, next(turn)) for number, turn in jobs.items()}  # when each job's next try begins
    pushed_at: list[float] = []
    while tries:
        number = min(tries, key=lambda job: tries[job][0])
        begun, _ = tries.pop(number)
        done = begun + 2.0
        if not any(begun < at <= done for at in pushed_at):
            pushed_at.append(done)
            continue
        now[0] = done
        following = next(jobs[number], None)
        assert following is not None, f"job {number} gave up with {len(pushed_at)} of 40 stored"
        tries[number] = (done + pauses.pop(), following)
    assert len(pushed_at) == 40


def test_pauses_grow_are_random_and_end(approve: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(approve.time, "monotonic", lambda: now[0])

    def sleep(seconds: float) -> None:
        assert 0.05 <= seconds <= approve.LONGEST_PAUSE_S
        now[0] += seconds

    monkeypatch.setattr(approve.time, "sleep", sleep)
    numbers = list(approve.turns())
    assert numbers[0] == 1
    assert len(numbers) > 20
    assert now[0] <= approve.GIVE_UP_AFTER_S
