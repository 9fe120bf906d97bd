"""Publishing to a running service from any other process: Flask, Django, Celery, RQ, cron, a shell.

Exports `publisher.Publisher`. It loads no part of the service: neither storage, nor mail, nor an event loop.
"""
