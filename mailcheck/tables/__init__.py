"""Projections of the domain in the log's tables, rebuildable from the events.

Exports: names and rows of the records, the checks that have not ended (`open_checks`), the removal of what
is kept of deleted mailboxes (`purge`).
"""
