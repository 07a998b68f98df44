"""The shipped suite: real performance tests of a small language model, and an example of how to write your own."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without the plugin (``-p no:slmperf``) there are no fixtures, so that nothing can be collected."""
    return True if not config.pluginmanager.hasplugin("slmperf") and collection_path.name.startswith("test_") else None
