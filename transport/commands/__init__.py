"""Commands and queries: what a domain registers, and the gate that runs each at most once.

Exports: `Registry`, `Call`, `Reply` and `Refusal` (`api`), the command gate (`gate`), the administrators'
own commands (`publishing`) with their rules (`publish_rules`).
"""
