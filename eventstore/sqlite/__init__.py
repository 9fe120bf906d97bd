"""The SQLite engine: one directory, one writing connection, a few reading ones.

Exports: `SqliteLog` (`open`), the engine (`store`), its reads and pages, the index by seq, the directory's
lock, and a view that only reads.
"""
