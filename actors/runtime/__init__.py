"""The runtime of actors: starts, schedules, supervises and stops them on one loop.

Exports: `Runtime`, the scheduler of turns, the dispatcher that runs one, the supervisor, dead letters.
"""
