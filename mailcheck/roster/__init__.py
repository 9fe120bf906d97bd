"""The roster of a user: the list of mailboxes, and every command on several of them. Pure.

Exports: its commands, state and decider, what one decision writes (`writing`), the rules for accounts, the
parser of import texts (`importer`).
"""
