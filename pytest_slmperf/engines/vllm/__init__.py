"""vLLM in process: offline (``vllm``) and asynchronous (``vllm-async``)."""
