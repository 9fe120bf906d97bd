"""Work on a whole log: verify it against its chain, copy and restore it, compact it.

Exports: `verify`, `backup`, `compaction`, one module each.
"""
