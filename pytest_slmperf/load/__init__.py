"""One load: planned, played, measured."""
