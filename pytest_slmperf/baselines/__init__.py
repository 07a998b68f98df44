"""Stored launches that a candidate is compared with."""
