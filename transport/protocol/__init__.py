"""The wire format: what the bytes mean, in both directions. Pure.

Exports: close and error codes (`codes`), dialects with compression, frames of events, the parser of client
messages (`incoming`, over `strict_json`), limits and the send window (`flow_control`), kinds of messages
(`kinds`).
"""
