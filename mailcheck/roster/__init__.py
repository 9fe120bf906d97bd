"""The roster of a user: which mailboxes there are, and every command that spans several. Pure.

Exports: its commands, state and decider, what a decision writes (`writing`), the rules for accounts, the
parser of import texts (`importer`).
"""
