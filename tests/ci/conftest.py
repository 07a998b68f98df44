from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import fakehub, throwaway


@pytest.fixture
def hub() -> Iterator[fakehub.Hub]:
    with fakehub.serve() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path) -> throwaway.Project:
    return throwaway.Project(tmp_path)
