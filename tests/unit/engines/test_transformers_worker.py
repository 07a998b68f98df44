"""What the transformers worker makes of versions and errors; without transformers."""

from __future__ import annotations

import sys

import pytest

from pytest_slmperf.engines.worker import tools as worker_tools


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch):
    """The worker file, loaded by path as worker.py loads it."""
    monkeypatch.setitem(sys.modules, "slmperf_worker_tools", worker_tools)
    module = worker_tools.load_own("engines/transformers/worker")
    yield module
    sys.modules.pop("slmperf_transformers_worker", None)
    sys.modules.pop("slmperf_transformers_play", None)


@pytest.mark.parametrize(
    ("known", "field"),
    [({"page_size", "block_size"}, "page_size"), ({"block_size"}, "block_size")],  # 5.19, 5.17
)
def test_the_size_of_a_page_reaches_every_version(worker, known: set[str], field: str) -> None:
    """Left out, pages of 256 tokens took eight times the memory of the budget."""
    assert worker.page_field(known) == field


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError("Memory footprint 171835940864 is more than available memory 76595960217"), "memory"),
        (RuntimeError("Memory footprint 9 is more than available memory 7"), "memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), "memory"),
        (RuntimeError("something else"), "error"),
    ],
)
def test_causes_are_named(worker, error: Exception, kind: str) -> None:
    fault = worker.explain(error, {"model": "m"})
    assert fault.kind == kind
    assert ("kv_cache_tokens" in fault.mend) == (kind == "memory")
