"""The assembled service: settings, keys, logs, and the one place where concrete classes meet.

Exports: `wiring`, `config`, `keys`, `tokens`, the file that names the running service, the event loop.
"""
