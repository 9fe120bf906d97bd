"""Worlds to run a test in: loops with a clock of their own, logs, the service or a part of it."""
