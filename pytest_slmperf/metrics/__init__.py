"""Metrics: name, unit, direction, formula."""
