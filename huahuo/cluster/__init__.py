"""Several nodes over one log: which there are, and which of them does the work that is done once.

Exports nothing: import from `members` and `duty`.
"""
