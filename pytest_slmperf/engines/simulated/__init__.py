"""A simulated engine: a cost model instead of a model."""
