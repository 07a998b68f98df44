"""Estimators and intervals on numbers; numpy and scipy only."""
