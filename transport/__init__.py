"""The wire protocol: sessions, connections, commands, and the Python client. Names no domain.

Rooms: `protocol`, `access`, `accounts`, `commands`, `session`, `load`, `wire`, `server`, `http`,
`durable_streams`, `workers`, `client`.
"""

if __name__ != "huahuo.transport":  # the repository's root is on the path, so Python finds this folder too
    raise ImportError("import huahuo.transport, not transport")
