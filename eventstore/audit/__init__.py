"""Questions to the log about who did what, and proofs for outside verifiers.

Exports: the index and its questions, Datasette's view of it, Merkle trees, signed checkpoints
(`checkpoint`), proofs of inclusion (`proof`).
"""
