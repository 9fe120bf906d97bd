"""Several processes that serve WebSockets of one service, over one Unix socket each (docs/deploying.md).

The owner has the log, the entities and all limits; a worker has sockets, sessions and framing. `desk` is
the owner's side of one worker, `worker` the worker's own; `channel` has all that they say to each other.
"""
