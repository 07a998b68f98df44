"""Engines behind OpenAI's HTTP API: an endpoint and the statistics that it publishes."""
