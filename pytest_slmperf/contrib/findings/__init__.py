"""Findings: whether the published shapes of small-model serving hold in some results. Pure functions of records."""
