"""Checks of mailboxes, which are effects: which ones run now, and how one check proceeds.

Exports: the input, output and limits of a check (`ports`), the queue, the check of one mailbox on its server
(`check`), and the effect that reports it to the mailbox from `Begin` to `Finish` (`run`).
"""
