"""The ``slmperf`` command."""
