"""The log: append, read, head; its engines, its care, and questions about it.

Rooms: `core`, `sqlite`, `memory`, `care`, `audit`, `zstd`. The port and the vocabulary that they share are
in this folder itself.
"""

if __name__ != "huahuo.eventstore":  # the repository's root is on the path, so Python finds this folder too
    raise ImportError("import huahuo.eventstore, not eventstore")
