"""The roofline: a model's limits by a device's memory bandwidth and arithmetic, and measured points as shares of them."""
