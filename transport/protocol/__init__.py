"""The wire format: what the bytes mean, in both directions. Pure.

Exports: close and error codes (`codes`), dialects, frames of events, the parser of client messages
(`incoming`), compression, limits, the send window, where a subscription begins (`place`).
"""
