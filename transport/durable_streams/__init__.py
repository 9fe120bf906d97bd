"""Durable Streams, the open protocol for resumable streams over HTTP, under `/ds/` (docs/durable-streams.md).

`deciding` says what a request changes, `bodies` what bytes are in the log and in answers; both are pure.
`keeping` commits, `serving` does what a request asks, `answers` and `refusals` are what it gets back, and
`reader` serves one reader of server-sent events.
"""
