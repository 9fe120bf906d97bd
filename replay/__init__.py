"""Reading the log: live with cursors, and back through time. Writes no event.

Rooms: `live`, `history`.
"""

if __name__ != "huahuo.replay":  # the repository's root is on the path, so Python finds this folder too
    raise ImportError("import huahuo.replay, not replay")
