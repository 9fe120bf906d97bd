"""Checks of mailboxes, which are durable effects: what one does, and how the log shows that it was done.

Exports: the input, output and limits of a check (`ports`), the check of one mailbox on its server (`check`),
the effect that reports it to the mailbox (`run`), the mailbox's stream as its book (`books`), and the
mailboxes as both reach them (`mailboxes`).
"""
