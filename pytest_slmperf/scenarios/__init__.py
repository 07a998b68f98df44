"""What is measured: offline, cold start, serving, sweeps, replication. Scenarios drive engines and never compare."""
