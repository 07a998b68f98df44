"""The HTML report."""

from pytest_slmperf._former_paths import former_names

__getattr__ = former_names(__name__, {"write_report": "report", "render": "report"})
