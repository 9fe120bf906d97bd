"""Mail as the service, time travel and embedding applications meet it.

Exports: the plug-in (`mail`), its settings (`settings`), its past (`past`), and random events (`samples`).
"""
