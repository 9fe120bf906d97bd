"""Helpers for libraries that a team uses already. Each module needs the extra of its name.

Modules: `mcp` (a durable event store for the official SDK), `celery` and `rq` (tasks whose progress users
watch), and `groups` (sending to groups as in Django Channels).
"""
