"""A mock server with OpenAI's streaming API that behaves as planned and records its actions with their times."""
