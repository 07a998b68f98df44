"""The add-ons' subcommands of ``slmperf``, found through the entry points ``pytest_slmperf.commands``."""
