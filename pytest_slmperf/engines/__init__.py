"""Engines: processes that serve a model, described by a frozen specification and pooled for the session."""
