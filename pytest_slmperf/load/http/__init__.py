"""The HTTP load generator: client processes that send a slice of a schedule and time the answers. Standard library only."""
