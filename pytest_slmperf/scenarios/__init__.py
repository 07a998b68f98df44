"""Scenarios, the work that is measured: offline, cold start, serving, sweeps, replication. They never compare."""
