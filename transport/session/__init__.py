"""The server's side of one connection without a socket, a clock or a task. Pure.

Exports: `Session`, its subscriptions, what is still to be sent (`delivery`), its deadlines (`liveness`), and
what it tells its shell to do (`outputs`).
"""
