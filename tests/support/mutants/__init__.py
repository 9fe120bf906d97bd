"""Deliberate bugs, one at a time, each of which a checker or a test must find: see docs/testing.md.

`bugs` lists them, `hook` puts one into a module as it is imported, `__main__` tries them and prints a table.
"""
