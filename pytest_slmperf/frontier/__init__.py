"""Pareto frontiers of sweeps: pure functions of numbers, no I/O, no engine, no pytest."""
