"""The environment of a run: identity of the machine, commit, and evidence of disturbances during a round."""
