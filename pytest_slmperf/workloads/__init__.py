"""What is sent to an engine under load: lengths, arrival times, prompts, traces. Pure functions of a seed."""
