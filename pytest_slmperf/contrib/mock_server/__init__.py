"""A mock server that speaks OpenAI's streaming API, behaves as planned, and writes down what it did and when."""
