"""Fake GPUs for the meters' tests: the real nvidia-ml-py over a library whose energy is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support import fake_nvml


@pytest.fixture
def gpus(tmp_path, monkeypatch) -> Iterator[Callable[..., fake_nvml.FakeNvml]]:
    """Call it with FakeGpu objects: nvidia-ml-py in this process sees them until the test ends. Time is virtual."""
    made: list[fake_nvml.FakeNvml] = []

    def lend(*cards: fake_nvml.FakeGpu, virtual: bool = True, lines: tuple[str, ...] = ()) -> fake_nvml.FakeNvml:
        folder = tmp_path / f"gpus{len(made)}"
        folder.mkdir()
        fake = fake_nvml.FakeNvml(folder, list(cards) or [fake_nvml.FakeGpu()], virtual=virtual, lines=lines)
        fake_nvml.lend(monkeypatch, fake)
        made.append(fake)
        return fake

    yield lend
    for fake in made:
        fake.close()
