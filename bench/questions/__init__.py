"""One file for each question; its docstring asks it. Also what several of them share.

Exports: a `run(options)` for each question, and the rounds that several share.
"""
