"""The wire format: what the bytes mean, in both directions. Pure.

Exports: close and error codes (`codes`), dialects, frames of events, the parser of client messages
(`incoming`, over `strict_json`), compression, limits, the send window, where a subscription begins (`place`).
"""
