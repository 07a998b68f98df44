"""Energy: meters behind one small Protocol, each reading with its source, scope and error bound."""
