"""The pytest plugin of the add-ons. Loading this module imports the standard library and pytest only."""

from __future__ import annotations
