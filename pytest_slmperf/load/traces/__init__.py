"""Traces and prompts of a user: JSONL, JSON and CSV files, and formats that are recognised by their columns."""
