"""Checks of mailboxes as effects: which run now, and one of them from its start to its end.

Exports: what a check takes and gives (`ports`), the queue, one check of one server (`check`), and its way
from `Begin` to `Finish` (`run`).
"""
