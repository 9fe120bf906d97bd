"""The bodies of `huahuo audit`: query, verify, prove, shred, serve.

Exports: the commands' bodies, opening the log that they read (`place`), the record that they leave in it
(`record`), and the output (`show`).
"""
