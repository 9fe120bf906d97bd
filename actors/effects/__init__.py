"""Durable effects: work after the commit of the decision that asked for it, done at least once, ended once.

Exports: what the log holds of them (`facts`), the fold and decisions about one entity's effects (`book`),
whose turn it is (`line`), where runs write (`desk`), one run (`run`), one from its claim to its end
(`attempts`), and all of them (`runner`).
"""
