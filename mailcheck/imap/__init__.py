"""An IMAP client that only reads, with everything down to the socket.

Exports: the client, one command and its answer (`exchange`), its byte stream, IMAP's grammar (`wire`),
connecting to allowed addresses only (`network`), what a failure means for the user (`outcome`).
"""
