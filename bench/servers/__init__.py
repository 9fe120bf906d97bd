"""The servers that are measured: ours, and its peers.

Exports: the real service as a child, the source of events inside each server, and `peers`.
"""
