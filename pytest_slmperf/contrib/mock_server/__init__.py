"""A mock server that speaks OpenAI's streaming API, does what it is told, and writes down what it did and when."""
