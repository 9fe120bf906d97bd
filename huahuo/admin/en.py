"""What administrators are told, in English. See `zh`."""

DONE = "done"
NO_OWNER = "there is nothing of this name"
COMPACTING = "the log is being compacted already"
COMPACTED = "compacted"
INDEXING = "the audit index is being built: try again later"
INVALID_FIELD = "a field is not valid"
