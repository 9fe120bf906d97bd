"""Dictionaries for the compressed protocol: what is shipped, what is trained, and from what.

A dictionary is public: it is served to whoever asks, before any sign-in. So nothing goes into one that
one user wrote (`masking`).
"""
