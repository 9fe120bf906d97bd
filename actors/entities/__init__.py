"""Event-sourced entities: actors that fold one stream and decide its commands one at a time.

Exports: what a domain supplies (`decider`), the entity itself, its kind, the directory that wakes and
ends entities, the errors that asking one can raise.
"""
