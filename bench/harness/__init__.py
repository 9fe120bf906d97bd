"""How a question is measured: rounds that take turns, child processes, tables, plots.

Exports: `Options`, `Sheet`, `Metric` (`harness`), children that report (`procs`), plots.
"""
