"""The server's side of one connection without a socket, a clock or a task. Pure.

Exports: `Session`, its subscriptions, the events still to be sent (`delivery`), its deadlines (`liveness`),
and its instructions to the shell (`interface`).
"""
