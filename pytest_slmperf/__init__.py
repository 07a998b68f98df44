"""pytest-slmperf: catch throughput, latency and energy regressions of small language models on one accelerator."""

__version__ = "0.1.0"
