"""Durable effects: work after the commit of the decision that asked for it, done at least once, ended once.

Exports: what the log holds of them (`facts`), what a runner asks of their books (`books`), whose turn it is
(`queue`), one run (`run`), and all of them (`runner`).
"""
