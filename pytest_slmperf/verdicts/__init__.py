"""When is it a regression? Pure functions of numbers: no I/O, no pytest, no engine."""
