"""Add-ons: commands, exporters, importers, the roofline, the mock server. The core never imports them.

They reach the core as any other package would: commands through the entry points ``pytest_slmperf.commands``, exporters
and charts through the hooks of ``contrib/plugin.py``.
"""
