"""API keys: tokens for programs, with rights and an expiry, stored as hashes and revoked one by one.

Exports: the keys folded from the log (`keys`), who a key stands for (`verifying`), changes that are made
durable (`book`), and the actions over the wire (`actions`).
"""
