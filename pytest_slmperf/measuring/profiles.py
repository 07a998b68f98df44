"""Parameter lists that follow the machine: ``pick(quick=[1, 8], full=[1, 4, 16], gpu=[1, 64, 512])``.

``@pytest.mark.parametrize`` is evaluated while a test module is imported, where no config can be reached; the plugin
therefore notes the running session's profile here before collection begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Active:
    profile: str = "quick"
    gpu: bool = False


_active = Active()


def activate(profile: str, gpu: bool) -> None:
    """Called by the plugin when it is configured."""
    global _active
    _active = Active(profile, gpu)


def active() -> Active:
    return _active


def pick(quick: T, full: T | None = None, gpu: T | None = None, gpu_full: T | None = None) -> T:
    """The value for the running session: ``full`` in the full profile, ``gpu``/``gpu_full`` where a GPU serves.

    What is not given falls back: gpu_full → gpu → full → quick.
    """
    order: Sequence[T | None]
    if _active.gpu:
        order = [gpu_full, gpu, full, quick] if _active.profile == "full" else [gpu, quick]
    else:
        order = [full, quick] if _active.profile == "full" else [quick]
    return next(value for value in order if value is not None)
