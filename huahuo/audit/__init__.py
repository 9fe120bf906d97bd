"""The bodies of `huahuo audit`: query, verify, prove, shred, serve.

Exports: the commands' bodies, where they look (`place`), the record that they leave (`record`), how they
show what they found.
"""
