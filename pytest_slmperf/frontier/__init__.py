"""Pareto frontier, knee and advisor: pure functions of numbers."""
