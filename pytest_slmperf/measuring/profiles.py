"""Parameter lists that follow the machine: ``pick(quick=[1, 8], full=[1, 4, 16], gpu=[1, 64, 512])``.

``@pytest.mark.parametrize`` is evaluated while a test module is imported, where no pytest config is within reach. The plugin
therefore activates the profile of its session before collection, and undoes that when the session is unconfigured. Sessions
within one process may nest: the last one that is still running is the active one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Active:
    """The profile of a session, and whether its engine serves on a GPU."""

    profile: str = "quick"
    gpu: bool = False


_sessions: list[Active] = []


def activate(profile: str, gpu: bool) -> Callable[[], None]:
    """Make this the active profile; the function that is returned ends that, and may be called again without effect."""
    session = Active(profile, gpu)
    _sessions.append(session)

    def deactivate() -> None:
        _sessions[:] = [other for other in _sessions if other is not session]

    return deactivate


def active_profile() -> Active:
    """The active profile; outside of a session with ``--slmperf`` the quick one on a CPU."""
    return _sessions[-1] if _sessions else Active()


active = active_profile  # its name in 0.1


def pick(quick: T, full: T | None = None, gpu: T | None = None, gpu_full: T | None = None) -> T:
    """The value for the running session: ``full`` in the full profile, ``gpu``/``gpu_full`` where a GPU serves.

    A value that is not given falls back: gpu_full → gpu → full → quick.
    """
    session = active_profile()
    order: list[T | None]
    if session.gpu:
        order = [gpu_full, gpu, full, quick] if session.profile == "full" else [gpu, quick]
    else:
        order = [full, quick] if session.profile == "full" else [quick]
    return next(value for value in order if value is not None)
