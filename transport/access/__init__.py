"""Admission of clients and their rights: tokens, origins, addresses, rights, revocations. Pure.

Exports: `Principal`, `Verified` and the `Verifier` port (`rights`), token checking and minting (`tokens`,
`claims`), the limits per address and the check of origins (`door`), `revocations`.
"""
