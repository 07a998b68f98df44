"""Results of other tools as records of this one."""
