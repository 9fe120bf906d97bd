"""Durable Streams, the open protocol for resumable streams over HTTP, under `/ds/` (docs/durable-streams.md).

`stream_rules` says what a request asks and changes, and what bytes are in the log and in answers; it is
pure. `stream_store` commits. `serving` answers requests, and serves readers of server-sent events.
"""
