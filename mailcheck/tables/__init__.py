"""Projections of the domain in the log's tables. They can be rebuilt from the events.

Exports: names and rows of the records, the checks that have not ended (`open_checks`), the effect that
removes the data of deleted mailboxes (`purge`).
"""
