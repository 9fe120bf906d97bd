"""Durable effects: work after the commit of the decision that asked for it, done at least once, ended once.

Exports: where they are recorded (`books`), which is on streams of their own if nothing else is said
(`streams`, with its facts in `facts`), whose turn it is (`queue`), one run (`run`), and all of them
(`runner`).
"""
