"""What users may have of a server's time and memory: shares, fair queueing, intake, metrics."""
