"""Durable timers of entities: commands that are sent later, once for each due time.

Exports: a timer, its row and its events (`timer`), what one decision does to the timers of its entity
(`changes`, `pending`, `missing`), the next timers in memory (`window`), the clockwork that sends the
commands (`clockwork`, to entities behind its `ports`), and the table made anew from the log (`rebuilding`).
"""
