"""Dictionaries for the compressed protocol: the shipped ones, trained ones, and the training.

A dictionary is public: it is served without sign-in. So it must not contain text that one user wrote
(`masking`).
"""
