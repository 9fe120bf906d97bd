"""Durable timers of entities: commands that are sent later, once for each due time.

Exports: a timer, its rows and its events (`timer`), what one decision does to the timers of its entity
(`changes`), the next ones in memory (`window`), the clockwork that sends them (`clockwork`), and the table
made anew from the log (`rebuilding`).
"""
