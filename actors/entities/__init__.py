"""Event-sourced entities: actors that fold one stream and decide its commands one at a time.

Exports: the interface for domains (`decider`), the entity itself, its kind, the directory that wakes and ends
entities, and the errors of asking an entity.
"""
