"""Metrics: name, label, unit, direction, and the text and code of the formula."""

from pytest_slmperf.metrics.base import Metric
from pytest_slmperf.metrics.registry import REGISTRY, known, metric, register

__all__ = ["REGISTRY", "Metric", "known", "metric", "register"]
