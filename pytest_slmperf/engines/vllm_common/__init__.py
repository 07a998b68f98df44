"""What vLLM in process and vLLM's server share: the installed package, its environment, its faults."""
