"""An IMAP client that only reads, from the socket up.

Exports: the client, its byte stream, IMAP's texts (`wire`), the guarded way to a socket (`network`), what a
failure means for the user (`outcome`).
"""
