"""What requests look like: lengths, prompts, arrival times, traces."""
