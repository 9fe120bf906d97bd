"""Checks of mailboxes, which are durable effects: what one does, and how the log shows that it was done.

Exports: the input, output and limits of a check (`ports`), the check of one mailbox on its server
(`check`), the effect that reports it to the mailbox (`run`), the mailbox's stream as its book (`books`),
and the mailboxes as both reach them (`mailboxes`).

Watching mailboxes for new mails: IDLE where the server offers it, else a look now and then.

Exports: the watchers of all watched mailboxes (`watching`), one of them (`watched`), whose turn it is
(`turns`), one look at a mailbox (`looking`), how a host fares (`hosts`), and how long to wait (`pace`).
"""
