"""The listening socket and everything that touches one: the shells around the sessions.

Exports: the `Server`, the connection's actor, the pump and the fan-out of events, the table of live
connections (`hub`), the handshake, plain HTTP (`site`), metrics.
"""
