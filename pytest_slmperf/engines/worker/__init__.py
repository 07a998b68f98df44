"""The program that runs in an engine's own process; standard library only."""
