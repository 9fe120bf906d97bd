"""Admission of clients and their rights: tokens, origins, addresses, rights, revocations. Pure.

Exports: `Principal`, `Verified` and the `Verifier` port, token checking and minting (`tokens`), the limits
per address (`door`), `rights`, `revocations`, `origin`.
"""
