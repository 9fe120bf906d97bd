"""Mail servers: where they are, what can go wrong, and clients that only read: IMAP, Graph, OAuth.

Exports: the providers, the faults and what they mean for the user (`outcome`), connecting to allowed
addresses only (`network`), the IMAP client, Graph, and access tokens (`oauth`).
"""
