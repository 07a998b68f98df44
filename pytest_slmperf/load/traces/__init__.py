"""Traces and prompts of a user: JSONL, JSON and CSV files, and the formats that are known by their columns."""
