"""An IMAP client that only reads, with everything down to the socket.

Exports: the client, its byte stream, IMAP's grammar (`wire`), connecting to allowed addresses only
(`network`), what a failure means for the user (`outcome`).
"""
