"""One actor: its inbox, its reference, its futures, and what becomes of it after a fault.

Exports: `LoopActor`, `LoopRef` and `ask`, `LoopFuture`, `Inbox`, the messages of the runtime, the errors,
supervision as data (`restart`).
"""
