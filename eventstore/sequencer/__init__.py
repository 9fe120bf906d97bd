"""Agreement on the order of commits: an ordered log of proposals that every node applies in the same order.

Exports nothing: import from `port`.
"""
