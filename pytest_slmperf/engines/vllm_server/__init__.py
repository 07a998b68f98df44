"""vLLM's OpenAI-compatible server, started here and measured over HTTP."""
