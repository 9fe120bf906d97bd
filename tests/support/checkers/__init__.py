"""Checkers of docs/invariants.md over a recorded history and the final log: one pure function each."""
