"""The server of connections: the shells around the sessions.

Exports: the `Server`, the connection's actor, the pump and the fan-out of events, the table of live
connections (`hub`), handshakes. Sockets are in `wire`, fairness and metrics in `load`.
"""
