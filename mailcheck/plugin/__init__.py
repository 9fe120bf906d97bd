"""Mail as the service, time travel and embedding applications meet it.

Exports: the plug-in (`mail`), its settings (`settings`), its past (`past`), and random events (`samples`).

The mail domain on the engine, put together.

Exports: its bounds (`bounds`), everything that reads mail servers, with its network (`readers`), the
durable effects (`work`), the handlers of commands (`commands`), what an embedding application reports
(`reports`), and the domain (`mail`).
"""
