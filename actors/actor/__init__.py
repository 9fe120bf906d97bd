"""One actor: its inbox, its reference, its futures, and its supervision.

Exports: `LoopActor`, `LoopRef` and `ask`, `LoopFuture`, `Inbox`, the messages of the runtime, the errors,
supervision as data (`restart`).
"""
