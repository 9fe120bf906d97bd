"""Three nodes over an ordered log, clients that write and read, and a fault every few seconds: `make chaos`.

`__main__` runs it, `faults` breaks things, `crowd` are the clients, `judging` says whether anything was lost.
"""
