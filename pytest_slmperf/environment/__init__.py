"""What the machine says of itself: identity, commit, and evidence of disturbance during a round."""
