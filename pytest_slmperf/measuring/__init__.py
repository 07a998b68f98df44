"""The measuring loop: launches, rounds, energy windows and evidence, until a verdict or the time budget."""
