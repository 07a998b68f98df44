"""Shared by all tests of the project."""

from __future__ import annotations

pytest_plugins = ["pytester"]
