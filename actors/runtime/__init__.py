"""Where actors live: starting, scheduling, supervising and stopping them on one loop.

Exports: `Runtime`, the scheduler of turns, the dispatcher that runs one, the supervisor, dead letters.
"""
