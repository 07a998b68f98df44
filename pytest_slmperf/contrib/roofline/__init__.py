"""What a device's memory bandwidth and arithmetic allow a model: the limits that measured points are held against."""
