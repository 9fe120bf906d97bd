"""One mailbox: what a check of it may say, when, and how it ends. Pure.

Exports: its commands, state and decider, and what a decision writes (`writing`).
"""
