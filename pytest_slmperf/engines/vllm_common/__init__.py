"""The common part of vLLM in process and vLLM's server: the installed package, its environment, its faults."""
