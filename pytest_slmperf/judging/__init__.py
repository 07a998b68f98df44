"""From samples to a verdict. Pure functions of numbers: no engine, no file, no pytest."""
