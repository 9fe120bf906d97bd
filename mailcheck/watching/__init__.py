"""Watching mailboxes for new mails: IDLE where the server offers it, else a look now and then.

Exports: the watchers of all watched mailboxes (`watching`), one of them (`watched`), whose turn it is
(`turns`), one look at a mailbox (`looking`), how a host fares (`hosts`), and how long to wait (`pace`).
"""
