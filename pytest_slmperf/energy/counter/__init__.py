"""A cumulative energy counter seen by polls: resolution, ticks, bound."""
