"""Stores of baselines: folders, SQLite, PostgreSQL."""
