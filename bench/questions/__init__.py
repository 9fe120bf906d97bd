"""One file for each question; its docstring asks it. Also what several of them share.

Exports: a `run(options)` for each question, the rounds that several share, profiling, and a maker of large
logs.
"""
