"""Which rounds were disturbed, and from when on a launch is steady."""
