"""Durable effects: work after the commit of the decision that asked for it, done at least once, ended once.

Exports: where they are recorded (`books`), which is on streams of their own if nothing else is said
(`streams`, with its facts in `facts`, its decisions in `book`, and the turns of its writers in `desk`), whose
turn it is (`line`), one run (`run`), one from its claim to its end (`attempts`), and all of them (`runner`).
"""
