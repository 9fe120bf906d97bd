"""Projections of the domain in the log's tables. They can be rebuilt from the events.

Exports: names and rows of the records, the checks that an embedding application has open
(`reported_checks`), the effect that removes the data of deleted mailboxes (`purge`).
"""
