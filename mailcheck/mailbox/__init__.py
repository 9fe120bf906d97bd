"""One mailbox: which events its checks may write, when, and how a check ends. Pure.

Exports: its commands, state and decider, and what one decision writes.
"""
