"""The in-memory engine, over a model of a disk that can lose what was not synced.

Exports: `MemoryLog` (`log`), `ModelDisk` (`model_disk`). Inside: `store`, `tables` and `records`.
"""
