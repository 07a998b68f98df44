"""Helpers of the standard library that know nothing of this project's domain."""
