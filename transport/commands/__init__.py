"""Commands and queries: their registry, and the gate that runs each command at most once.

Exports: `Registry`, `Call`, `Reply` and `Refusal` (`api`), the command gate (`gate`), the administrators'
own commands (`publishing`) with their rules (`publish_rules`).
"""
