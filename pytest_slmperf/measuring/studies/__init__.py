"""Measurements of more than one point: sweeps, rising rates, replication."""
